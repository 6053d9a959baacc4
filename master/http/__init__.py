"""What the fast path and the API share: reading a request, and the bytes of a reply."""
