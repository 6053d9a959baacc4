"""One node: its partitions and their roles under the present view."""
