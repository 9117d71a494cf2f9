"""Where the ids of a mapping belong: to a catalogue of items, to the table of users, or to neither."""

from collections.abc import Iterator, Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from recdb.data.mapped import Mapped, option
from recdb.data.naming import sounds_like_user
from recdb.data.remarks import Remark
from recdb.data.samples import try_to_read
from recdb.database import fetch_row

MOST = 0.5  # a share that is no accident
INTEGERS = ("bigint", "integer", "smallint")


def check_catalogues(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Items of no catalogue, and columns that were swapped."""
    catalogues = [other for other in everything if other.role == "items"]
    ids = [] if new.has_array("item") else list(dict.fromkeys(new.values("item")))
    user, item, name = new.column("user"), new.column("item"), new.relation.name
    swapped = f"did you mean --user {item} --item {user}?"
    if not catalogues:
        if sounds_like_user(item) and not sounds_like_user(user) and user != item:
            yield Remark(f"{name}: {item} sounds like a user's id, and {user} does not", swapped)
        return
    found = known_items(connection, ids, catalogues)
    if not ids or found is None:
        return
    names = " and ".join(other.relation.name for other in catalogues)
    points_at, at_catalogue = references(connection, name), {other.relation.name for other in catalogues}
    of_user, of_item = (points_at.get(column, ("",))[0] for column in (user, item))
    if of_user in at_catalogue and of_item not in at_catalogue:
        yield Remark(f"{name}.{user} refers to {of_user}, which holds items", swapped, grave=True)
    elif found == 0:
        message = f"0 of {len(ids):,} item ids of {name} are in {names}"
        grave = None if of_user else find_swap(connection, new, everything)
        if grave is not None:
            yield Remark(f"{message}, but its user ids are", people(new, catalogues) or swapped, grave=grave)
            return
        hint = better_column(connection, new, catalogues)
        hint = hint or "recommend() never returns them; they only tell which users are alike"
        yield Remark(f"{message}, such as '{ids[0]}'", hint)
    elif found < len(ids):
        message = f"{len(ids) - found:,} of {len(ids):,} item ids of {name} are in no catalogue"
        yield Remark(f"{message}: recommend() does not return them")


def find_swap(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> bool | None:
    """Tell whether the user ids are items: True if this is certain, False if numbers may agree by accident."""
    catalogues = [other for other in everything if other.role == "items"]
    users, items = (list(dict.fromkeys(new.values(key))) for key in ("user", "item"))
    if (known_items(connection, users, catalogues) or 0) <= MOST * len(users):
        return None
    if not all(user.isdecimal() for user in users):
        return True
    table = users_table(connection, everything)
    if table is not None:
        if (count_known(connection, items, *table) or 0) > MOST * len(items):
            return True
        if count_known(connection, users, *table) != 0:
            return None
    if sounds_like_user(new.column("user")) and not sounds_like_user(new.column("item")):
        return None
    return False if all(item.isdecimal() for item in items) else None


def people(new: Mapped, catalogues: Sequence[Mapped]) -> str | None:
    """Return the hint that the catalogue is the table of users, if its name says so."""
    names = [other.relation.name for other in catalogues]
    if sounds_like_user(new.column("item")) or not all(sounds_like_user(table_of(name)) for name in names):
        return None
    return f"{names[0]} sounds like the table of users: name the table of items, --items"


def better_mapping(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> str | None:
    """Find columns with which the item ids of a table would be in a catalogue."""
    catalogues = [other for other in everything if other.role == "items"]
    user, item = new.column("user"), new.column("item")
    if user not in references(connection, new.relation.name) and find_swap(connection, new, everything) is not None:
        return people(new, catalogues) or f"did you mean --user {item} --item {user}?"
    return better_column(connection, new, catalogues) or people(new, catalogues)


def check_all(connection: psycopg.Connection, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Catalogues that hold no item of any interaction: recommend() would return nothing that anybody touched."""
    catalogues = [other for other in everything if other.role == "items"]
    sources = [other for other in everything if other.role == "interactions"]
    ids = list(dict.fromkeys(value for source in sources for value in source.values("item")))
    shown = [value for catalogue in catalogues for value in catalogue.values("item")[:1]]
    (own,) = fetch_row(connection, "select exists (select 1 from recdb.interaction)")
    if not ids or not shown or own or known_items(connection, ids, catalogues) != 0:
        return
    names = " and ".join(other.relation.name for other in catalogues)
    better = [hint for source in sources if (hint := better_mapping(connection, source, everything))]
    yield Remark(
        f"0 of {len(ids):,} item ids are in {names}, so recommend() would return nothing that anybody touched: an "
        f"interaction has '{ids[0]}', and {catalogues[0].relation.name} has '{shown[0]}'",
        better[0] if better else "name the columns that hold the same ids: --item and --item-id",
        grave=True,
    )


def check_users(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """User ids that are not in the table of users, where foreign keys tell which table this is."""
    key = "owner" if new.role == "items" else "user"
    column, ids = new.column(key), list(dict.fromkeys(new.values(key)))
    if not ids or column in references(connection, new.relation.name):
        return
    referred = referred_users(connection, everything)
    table = referred or users_table(connection, everything)
    if table is None or table[0] == new.relation.name:
        return
    known = count_known(connection, ids, *table)
    if known is None or known == len(ids):
        return
    better = other_columns(connection, new, table) if known == 0 else None
    message = f"{known:,} of {len(ids):,} user ids of {new.relation.name}.{column} are in {table[0]}"
    if better:
        yield Remark(message, f"did you mean --{option(new, key)} {better}?")
    elif known == 0 and referred:
        yield Remark(message, "is it the column of the user's id?")
    elif known and (referred or known > MOST * len(ids)):
        # A table with a name for people may hold others than the application's users.
        yield Remark(f"{message}: are the others guests, or users who were deleted?")


def other_columns(connection: psycopg.Connection, new: Mapped, table: tuple[str, str]) -> str | None:
    """Find a column whose ids are in a table, among those without a meaning."""
    taken = {new.column(key) for key in new.mapping}
    for name in new.sample.columns if new.sample else ():
        values = list(dict.fromkeys(new.sample.values(name) if new.sample else ()))
        if name in taken or not new.relation.columns[name].is_id or not values:
            continue
        if (count_known(connection, values, *table) or 0) > MOST * len(values):
            return name
    return None


# Helpers ------------------------------------------------------------------------------------------------------


def table_of(name: str) -> str:
    """Return a table's name without its schema."""
    return name.rpartition(".")[2].strip('"')


def known_ids(connection: psycopg.Connection, ids: Sequence[str], table: LiteralString, column: str) -> set[str] | None:
    """Return the ids that a table has in a column, each read by the column's index; None if it cannot be read."""
    (read, hidden) = fetch_row(
        connection,
        "select recdb.as_id('u.id', recdb.column_type(%s::regclass, %s)), row_security_active(%s::regclass::oid)",
        [table, column, table],
    )
    if read is None or hidden:
        return None
    query = sql.SQL(
        "select u.id from unnest({}::text[]) u(id) where exists (select from {} t where t.{} = {} offset 0)"
    ).format(sql.Literal(list(ids)), sql.SQL(table), sql.Identifier(column), sql.SQL(read))
    rows = try_to_read(connection, query)
    return None if rows is None else {str(known) for (known,) in rows}


def count_known(connection: psycopg.Connection, ids: Sequence[str], table: LiteralString, column: str) -> int | None:
    """Count the ids that a table has in a column; None if it cannot be read."""
    known = known_ids(connection, ids, table, column)
    return None if known is None else len(known)


def known_items(connection: psycopg.Connection, ids: Sequence[str], catalogues: Sequence[Mapped]) -> int | None:
    """Count the ids that are in a catalogue, recdb's own among them; None if one cannot be read."""
    left = set(ids)
    for catalogue in catalogues:
        known = known_ids(connection, list(left), catalogue.relation.name, catalogue.column("item"))
        if known is None:
            return None
        left -= known
    rows = connection.execute("select i.item_id from recdb.item i where i.item_id = any (%s)", [list(left)])
    return len(set(ids)) - len(left - {known for (known,) in rows})


def better_column(connection: psycopg.Connection, new: Mapped, catalogues: Sequence[Mapped]) -> str | None:
    """Find a column of the interactions, or a unique one of a catalogue, with which the ids would meet."""
    ids = list(dict.fromkeys(new.values("item")))
    for catalogue in catalogues:
        table = (catalogue.relation.name, catalogue.column("item"))
        found = other_columns(connection, new, table)
        if found:
            return f"did you mean --item {found}?"
        for column in catalogue.relation.columns.values():
            taken = (catalogue.column("item"), catalogue.column("owner"))
            if not (column.is_unique and column.is_id) or column.name in taken:
                continue
            if (count_known(connection, ids, catalogue.relation.name, column.name) or 0) > MOST * len(ids):
                return f"did you mean --item-id {column.name}?"
    return None


def references(connection: psycopg.Connection, relation: str) -> dict[str, tuple[str, str]]:
    """Read a table's foreign keys of one column: the table and column that each refers to."""
    rows = connection.execute(
        """
        select a.attname::text, format('%%I.%%I', n.nspname, t.relname), b.attname::text
        from pg_constraint f
        join pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
        join pg_class t on t.oid = f.confrelid
        join pg_namespace n on n.oid = t.relnamespace
        join pg_attribute b on b.attrelid = f.confrelid and b.attnum = f.confkey[1]
        where f.conrelid = to_regclass(%s) and f.contype = 'f' and cardinality(f.conkey) = 1
        """,
        [relation],
    ).fetchall()
    return {column: (table, referred) for column, table, referred in rows}


def referred_users(connection: psycopg.Connection, everything: Sequence[Mapped]) -> tuple[str, str] | None:
    """Find the table of people that the users of an attached table refer to by a foreign key."""
    for other in everything:
        key = "owner" if other.role == "items" else "user"
        found = references(connection, other.relation.name).get(other.column(key))
        if found and sounds_like_user(table_of(found[0])):
            return found
    return None


def users_table(connection: psycopg.Connection, everything: Sequence[Mapped]) -> tuple[str, str] | None:
    """Find the table of users: that of referred_users(), or else a table of people in many keys of the database."""
    found = referred_users(connection, everything)
    if found:
        return found
    rows = connection.execute(
        """
        select format('%I.%I', n.nspname, t.relname), a.attname::text, t.relname::text
        from pg_constraint f
        join pg_class t on t.oid = f.confrelid
        join pg_namespace n on n.oid = t.relnamespace
        join pg_attribute a on a.attrelid = t.oid and a.attnum = f.confkey[1]
        where f.contype = 'f' and cardinality(f.confkey) = 1 and has_column_privilege(t.oid, a.attnum, 'select')
        group by n.nspname, t.relname, a.attname
        order by count(*) desc
        """
    ).fetchall()
    return next(((name, column) for name, column, table in rows if sounds_like_user(table)), None)
