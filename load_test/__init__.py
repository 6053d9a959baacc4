"""The load test: what drives load, what breaks a node meanwhile, and the report of it."""
