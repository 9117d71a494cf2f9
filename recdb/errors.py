"""The errors that recdb raises itself."""


class RecdbError(Exception):
    """Anything recdb refuses or fails at; `str()` is one clear line, `hint` says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInput(RecdbError, ValueError):
    """An argument, a file or a setting that recdb cannot accept."""


class ModelNotFound(RecdbError, LookupError):
    """No kept model version has the given label."""


class Rejected(RecdbError):
    """A version was trained, and is so clearly worse than the active one that this one keeps serving."""

    def __init__(self, message: str, hint: str | None, label: str) -> None:
        super().__init__(message, hint)
        self.label = label


class NotInstalled(RecdbError):
    """The database has no recdb, or not this version of it."""


class NotPermitted(RecdbError):
    """The role that recdb connects as lacks a grant."""


class Unavailable(RecdbError):
    """The database cannot be reached or is too busy; the same call may work in a moment."""
