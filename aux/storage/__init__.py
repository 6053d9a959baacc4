"""The store: LRU, expiry, what memory an entry costs. Synchronous, without I/O."""
