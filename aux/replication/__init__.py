"""Copies of a partition: primary, replica, what is sent between them."""
