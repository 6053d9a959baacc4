"""What the hit ratio would be with other sizes and policies: small models of the cache, fed with a sample of the keys."""
