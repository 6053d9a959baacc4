"""Settings: one typed definition, and how they are read."""
