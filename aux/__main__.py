"""`python -m aux …` is `ringmaster aux …`."""

import sys

from ringmaster.cli import main

sys.argv[1:1] = ["aux"]
main()
