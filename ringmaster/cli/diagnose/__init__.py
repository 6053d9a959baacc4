"""`ringmaster diagnose`: one archive for a report, without secrets."""
