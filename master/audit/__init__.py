"""The self-audit: every master writes keys of its own through masters, reads them through others, and checks what it gets (adr/0029)."""
