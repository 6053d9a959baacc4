"""The process: its clock, its garbage collector, its log."""
