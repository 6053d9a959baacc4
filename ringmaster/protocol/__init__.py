"""What goes over the wire: entries, options, RESP, the hash of a key."""
