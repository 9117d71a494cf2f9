"""The name and the version of the distribution that pip installs, and the hints that name it.

The import name, the schema and the command are `recdb`; on the package index that name is another project's.
"""

from importlib.metadata import version

DISTRIBUTION = "recdb-postgres"


def installed_version() -> str:
    """Return the version of the installed distribution."""
    return version(DISTRIBUTION)


def install_command(extra: str | None = None) -> str:
    """Return the command that installs an extra; without one, the packages that recdb itself needs."""
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"


ISSUES = "https://github.com/recdb/recdb/issues"


UPGRADE_COMMAND = f"pip install --upgrade {DISTRIBUTION}"
