"""Small programs that use a cluster, each to be read in one sitting. `tests/e2e/test_examples.py` runs them."""
