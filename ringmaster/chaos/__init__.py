"""Breaking a real cluster on purpose, under load, and counting what its clients saw."""
