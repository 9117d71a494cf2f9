"""`python -m recdb.cli`."""

from recdb.cli import main

main()
