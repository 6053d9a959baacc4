"""Settings: their typed definition, and where values are read from."""
