"""The errors that recdb raises itself."""


class RecdbError(Exception):
    """The base of all errors that recdb raises: `str()` is one line, `hint` says how to go on."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInput(RecdbError, ValueError):
    """recdb does not accept an argument, a file or a setting."""


class ModelNotFound(RecdbError, LookupError):
    """No kept model version has the given label."""


class Rejected(RecdbError):
    """A new version ranks clearly worse than the active one, so the active one keeps serving."""

    def __init__(self, message: str, hint: str | None, label: str) -> None:
        super().__init__(message, hint)
        self.label = label


class NotInstalled(RecdbError):
    """recdb is not installed in the database, or not in this version."""


class NotPermitted(RecdbError):
    """The role that recdb connects as lacks a grant."""


class NoStandby(RecdbError):
    """`read_url` names another database than the one that is written to."""


class Unavailable(RecdbError):
    """The database is not reachable or too busy; the same call may succeed a moment later."""
