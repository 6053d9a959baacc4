"""Snapshots of a node: when and what is written, what is kept, how it comes back."""
