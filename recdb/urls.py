"""The spellings of a database's URL: read once, here, and never printed, because a URL holds a password.

An error of libpq about a URL quotes parts of it, and a password that is not percent-encoded may be in any part. So
the errors here quote nothing.
"""

import re
from urllib.parse import quote, unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recdb.errors import InvalidInput

# Query parameters that other tools put into URLs and libpq does not know: users paste URLs of Prisma and SQLAlchemy.
FOREIGN_PARAMETERS = frozenset(
    {
        "schema",
        "pgbouncer",
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "statement_cache_size",
        "single_use_connections",
        "pool_size",
        "max_overflow",
        "sslaccept",
        "sslidentity",
    }
)
KNOWN_PARAMETERS = FOREIGN_PARAMETERS | {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}

EXAMPLE = "write postgresql://user:password@host:5432/database"
PLAIN_NAME = re.compile(r"[\w.$-]+")

# What may stand before and after the '@' of a URL. A password in another form is not percent-encoded.
CREDENTIALS = re.compile(r"(?:[^%:@/?#\s]|%[0-9a-fA-F]{2})*(?::(?:[^%@/?\s]|%[0-9a-fA-F]{2})*)?")
PLACE = re.compile(r"(?:\[[0-9a-fA-F:.%]*\]|[\w.%,-]|:\d+(?=[,/?]|$)|:(?=[,/?]|$))*(?:/[^@/?#]*)?")


def normalize_url(url: str) -> str:
    """Turn a PostgreSQL URL, as any tool spells it, into a libpq connection string.

    Understands `postgres://`, SQLAlchemy's `postgresql+driver://`, Prisma's query parameters, a password that is not
    percent-encoded, and libpq's own `key=value` strings. Raises InvalidInput for anything else.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    if separator and "=" not in scheme:
        if scheme.lower().split("+")[0] not in ("postgres", "postgresql"):
            named = f": its scheme is '{scheme}'" if re.fullmatch(r"[a-z][a-z0-9+]{1,15}", scheme) else ""
            raise InvalidInput(f"not a PostgreSQL URL{named}", EXAMPLE)
        # Do not parse the rest further: libpq has its own rules for '+', '#', empty hosts and lists of hosts.
        credentials, place, query = split_url(rest)
        kept = [part for part in query.split("&") if part and part.partition("=")[0] not in FOREIGN_PARAMETERS]
        kept = join_hosts(kept)
        url = f"postgresql://{credentials}{place}{'?' if kept else ''}{'&'.join(kept)}"
    try:
        parts = conninfo_to_dict(url)
        # What libpq took for a host, a port or a database is printed later: a piece of a password is none of them.
        host, port = str(parts.get("host") or ""), str(parts.get("port") or "")
        if re.search(r"[^\d,]", port) or re.search(r"[@?#]", host):
            raise InvalidInput("not a PostgreSQL URL: its host or port is not understood", EXAMPLE)
        for name, value in parts.items():
            # Other programs, such as psql, print these names as they are, and a terminal would act on them.
            if name != "password" and re.search(r"[\x00-\x1f\x7f-\x9f]", str(value)):
                raise InvalidInput(f"not a PostgreSQL URL: a control character in its {name}", EXAMPLE)
        return make_conninfo(url)
    except (psycopg.Error, UnicodeError):
        raise InvalidInput("not a PostgreSQL URL, nor a connection string of libpq", EXAMPLE) from None


def split_url(rest: str) -> tuple[str, str, str]:
    """Split the text after '://' into the credentials with their '@', the place, and the query.

    A URL as the standard has it stays as it is. In another, the credentials end at the '@' before which they can begin
    and behind which a host, a database and known parameters stand; they are percent-encoded.
    """
    if re.search(r"[?&]\w*password=.*@", rest, re.IGNORECASE):
        raise InvalidInput("not a PostgreSQL URL: an @ in the password of its query is written %40", EXAMPLE)
    ends = [found.start() for found in re.finditer("@", rest)]
    for end in ends:
        if CREDENTIALS.fullmatch(rest[:end]) and (found := split_place(rest[end + 1 :])):
            return rest[: end + 1], *found
    if found := split_place(rest):
        return "", *found
    splits = [(end, found) for end in ends if (found := split_place(rest[end + 1 :]))]
    for end, (place, query) in [split for split in splits if split[1][1]] + splits[::-1]:
        user, colon, password = rest[:end].partition(":")
        return f"{encode(user)}{colon}{encode(password)}@", place, query
    if ends:
        raise InvalidInput("not a PostgreSQL URL: what follows the password is not understood", EXAMPLE)
    place, _, query = rest.partition("?")
    return "", place, query


def split_place(text: str) -> tuple[str, str] | None:
    """Split a host, a database and a query; None if the text is something else."""
    place, mark, query = text.partition("?")
    known = all(part.partition("=")[0] in KNOWN_PARAMETERS for part in query.split("&") if part)
    return (place, query) if PLACE.fullmatch(place) and (known or not mark) else None


def join_hosts(query: list[str]) -> list[str]:
    """Write several servers in a query as libpq has them; SQLAlchemy repeats `host`, with the port behind a colon.

    libpq would take the last `host` alone. Raises InvalidInput if the numbers of hosts and ports differ.
    """
    hosts, ports = (
        [one for part in query if part.partition("=")[0] == name for one in unquote(part.partition("=")[2]).split(",")]
        for name in ("host", "port")
    )
    repeated = any(sum(part.startswith(f"{name}=") for part in query) > 1 for name in ("host", "port"))
    # A lone folder of sockets may have a colon in its name.
    name_and_port = r"(\[[^]]*\]|[^:@]*):(\d*)" if repeated else r"(\[[^]]*\]|[^:/@]*):(\d*)"
    found = [re.fullmatch(name_and_port, host) for host in hosts]
    if not repeated and not any(found):
        return query
    if any(found):
        if ports:
            raise InvalidInput("not a PostgreSQL URL: its query has ports twice, in host and in port", EXAMPLE)
        ports = [one[2] if one else "" for one in found]
        hosts = [one[1].strip("[]") if one else host for one, host in zip(found, hosts, strict=True)]
    if len(ports) > 1 and len(ports) != len(hosts):
        raise InvalidInput(f"not a PostgreSQL URL: it has {len(hosts)} hosts and {len(ports)} ports", EXAMPLE)
    others = [part for part in query if part.partition("=")[0] not in ("host", "port")]
    named = {"host": hosts, "port": ports}
    return others + [f"{name}={quote(','.join(values), safe='/,')}" for name, values in named.items() if values]


def encode(text: str) -> str:
    """Percent-encode a user or a password; a text that is encoded already stays as it is."""
    encoded = re.sub(r"%[0-9a-fA-F]{2}", "", text)
    return quote(text, safe="" if "%" in encoded else "%")


def socket_url(conninfo: str) -> str:
    """Write the connection string of a server that has no password as a URL, for other programs."""
    parts = conninfo_to_dict(conninfo)
    names = {"host": str(parts.get("host") or ""), "port": str(parts.get("port") or "")}
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in names.items() if value)
    return f"postgresql://{parts.get('user') or ''}@/{parts.get('dbname') or ''}?{query}"


def describe_url(conninfo: str) -> str:
    """Name the database and the host, or the hosts, of a connection string, and nothing else of it."""
    parts = conninfo_to_dict(conninfo)
    hosts, ports = (str(parts.get(name) or "").split(",") for name in ("host", "port"))
    ports = ports * len(hosts) if len(ports) == 1 else ports
    place = ",".join(
        f"{host or 'local'}{f':{port}' if port and not host.startswith('/') else ''}"
        for host, port in zip(hosts, ports, strict=False)
    )
    user = str(parts.get("user") or "")
    return f"{parts.get('dbname') or (user if PLAIN_NAME.fullmatch(user) else '') or 'default'} at {place}"


def prepares_statements(url: str) -> bool:
    """Tell whether named prepared statements are safe; Prisma's `?pgbouncer=true` means that they are not."""
    return "pgbouncer=true" not in url.lower().rpartition("?")[2].split("&")


def without_credentials(url: str) -> str:
    """Return any tool's URL without user and password, and without a query, where it may have a secret too."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}" if separator else url


def quotes_credentials(text: str, url: str) -> bool:
    """Tell whether a text, such as another library's error, shows a part of the credentials."""
    shown = without_credentials(url)
    parts = re.split(r"[^\w]+", url.partition("://")[2])
    return any(len(part) > 2 and part in text and part not in shown for part in parts)
