"""`ringmaster doctor`: whether this machine suits a cluster, and what to change."""
