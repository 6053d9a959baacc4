"""The library that Ringmaster's services, its command line and its clients share."""

__all__ = ["__version__"]

__version__ = "0.1.0"
