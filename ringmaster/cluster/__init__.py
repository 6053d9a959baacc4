"""Who is in the cluster: the view, leases, registration."""
