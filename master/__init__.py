"""The HTTP service: stateless masters that route each key to the node that owns it."""
