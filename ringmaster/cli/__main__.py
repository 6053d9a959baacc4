"""`python -m ringmaster.cli …` is `ringmaster …`."""

from ringmaster.cli import main

main()
