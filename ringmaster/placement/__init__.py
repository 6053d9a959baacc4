"""Partitions onto nodes, with the fewest moves. Pure."""
