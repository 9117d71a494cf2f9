"""What `python -m recdb.cli` runs."""

from recdb.cli import main

main()
