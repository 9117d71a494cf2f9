"""A folder for the bytecode of the programs that the tests start, where the environment lets Python keep none."""

import atexit
import os
import shutil
import sys
import tempfile

FORBIDS = "PYTHONDONTWRITEBYTECODE"
FOLDER = "PYTHONPYCACHEPREFIX"


def keep_bytecode() -> None:
    """Let this process and those that it starts keep their bytecode in a folder that goes with this process.

    Each `recdb` would compile the package again otherwise, which is a third of its start. The source folders stay as
    they are. The processes of pytest-xdist inherit the folder, so they make none.
    """
    if FORBIDS in os.environ and FOLDER not in os.environ:
        folder = tempfile.mkdtemp(prefix="recdb-bytecode-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        del os.environ[FORBIDS]
        os.environ[FOLDER] = sys.pycache_prefix = folder
        sys.dont_write_bytecode = False
