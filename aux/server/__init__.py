"""The RESP server and its commands."""
