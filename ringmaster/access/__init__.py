"""Bearer tokens (RFC 6750): what each permits, and the file that lists them by their hashes."""
