"""The names that applications give to columns: types beside ids, marks of deleted rows, users' ids."""

import re
from collections.abc import Collection, Mapping

ID_ENDINGS = re.compile(r"(_?(id|uuid|guid|pk|key|ref|fk)|(?<=[a-z])(Id|ID|Uuid|UUID|Guid|Key|Ref|Pk))$")
TYPE_ENDINGS = (
    "type", "type_id", "kind", "class", "class_name", "model", "model_type", "table", "table_name", "entity",
    "content_type", "content_type_id", "ctype",
)  # fmt: skip
# Types that stand beside any id: Django's generic relations, and types of no stem of their own.
LONE_TYPES = ("content_type_id", "content_type", "contenttype_id", "object_type", "entity_type", "model_type")
GENERIC = re.compile(
    r"^_?(object|entity|target|subject|item|resource|content|thing|model|record|reference|ref)?_?(id|pk|uuid)?$"
)

DELETED_AT = re.compile(r"^(is_)?(deleted|removed|archived|discarded|trashed|destroyed|erased)(_?(at|on|date|time))$")
DELETED = re.compile(
    r"^_?(is_?|was_?)?(deleted|removed|archived|discarded|trashed|hidden|banned|disabled|inactive|draft|spam|private)$"
)
SHOWN = re.compile(r"^_?(is_?)?(active|available|published|visible|enabled|public|approved|in_?stock|live)$")
STATES = re.compile(r"^_?(status|state|visibility|publication_?status|moderation_?status)$")
GONE = re.compile(
    r"^(deleted|removed|archived|discarded|draft|hidden|banned|trash(ed)?|spam|private|unlisted|inactive|disabled|"
    r"rejected|withdrawn|sold|expired|pending|cancell?ed|unpublished|blocked)$"
)
USERS = re.compile(
    r"(^|_)(user|member|customer|account|viewer|visitor|person|people|profile|client|buyer|reader|listener|player|"
    r"follower|reviewer|subscriber|patient|student|employee|actor|author|owner|voter|rater|liker|guest)s?(_|$)"
)


def snake(name: str) -> str:
    """Write a camelCase name in lower case with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def sounds_like_user(name: str) -> bool:
    """Tell whether a column or table is named for a person."""
    return USERS.search(snake(name)) is not None


def find_type_column(item: str, columns: Collection[str]) -> str | None:
    """Find the column that says which kind of thing an id belongs to, as target_type does beside target_id."""
    stem = snake(ID_ENDINGS.sub("", item)).strip("_")
    by_name = {snake(name): name for name in columns if name != item}
    wanted = [f"{stem}_{ending}" for ending in TYPE_ENDINGS] + [f"{stem}{ending}" for ending in TYPE_ENDINGS]
    if not stem or GENERIC.match(snake(item)):
        wanted += [*LONE_TYPES, *(f"item_{ending}" for ending in ("type", "kind"))]
    return next((by_name[name] for name in wanted if name in by_name), None)


def find_mark(columns: Mapping[str, str]) -> tuple[str, str] | None:
    """Find a column that marks deleted rows: its name, and `set` or `true` for the values of a deleted row."""
    for name, kind in columns.items():
        plain = snake(name)
        if DELETED_AT.match(plain) or (DELETED.match(plain) and kind.startswith(("timestamp", "date"))):
            return name, "set"
        if DELETED.match(plain) and kind == "boolean":
            return name, "true"
    return None


def find_shown(columns: Mapping[str, str]) -> str | None:
    """Find a column that says that an item may be shown."""
    return next((name for name, kind in columns.items() if kind == "boolean" and SHOWN.match(snake(name))), None)


def find_state(columns: Collection[str]) -> str | None:
    """Find a column of states, such as draft and published."""
    return next((name for name in columns if STATES.match(snake(name))), None)


def singular(table: str) -> str:
    """Write a table's name as a type column may: Posts and posts as post, categories as category."""
    name = snake(table)
    if name.endswith("ies"):
        return name[:-3] + "y"
    return re.sub(r"(?<=(s|x|z))es$|(?<=(ch|sh))es$|s$", "", name)
