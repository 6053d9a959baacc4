"""What a client may see of a key that it alone writes: shared by the load of `ringmaster chaos` and the self-audit of masters."""
