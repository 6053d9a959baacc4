"""The HTTP interface: routes and handlers, one file per resource."""
