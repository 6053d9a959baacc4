"""`ringmaster mcp`: the cluster's questions and operations as tools of the Model Context Protocol."""
