"""The hot subset of /data, served straight from the connection."""
