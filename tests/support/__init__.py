"""Code that the tests share."""

import os

# Workers of pytest-xdist have it; recdb's tables that go to a file or a pipe would be as narrow.
os.environ.pop("COLUMNS", None)
