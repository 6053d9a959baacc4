"""Pure: from one observation of the cluster to the next view."""
