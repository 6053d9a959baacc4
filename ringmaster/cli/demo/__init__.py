"""`ringmaster demo`: what happens to the data when nodes die, join and come back, told with figures."""
