"""Benchmarks: programs that measure and print; nothing here ships or is a test."""
