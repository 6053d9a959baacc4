"""Connections: the network as an interface, and the pipelined link."""
