"""The cache server: one node of the cluster, an LRU store behind RESP."""
