"""Test suites of other projects, run against a node: `make test-peers`. Nothing of them is part of this project."""
