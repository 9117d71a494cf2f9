"""Doubts about a mapping: ids of several kinds of things, columns without values, deleted rows, times that say nothing.

Each doubt comes from some rows of the application's tables (recdb.data.samples) and says how many. A grave doubt means
that recommend() would return nothing of use: attach() refuses it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from recdb.data.belonging import INTEGERS, check_all, check_catalogues, check_users
from recdb.data.embeddings import check_embeddings
from recdb.data.mapped import Mapped, Named, joined, literal, look, option, quoted, read_again, usage
from recdb.data.naming import GONE, find_mark, find_shown, find_state, find_type_column, singular
from recdb.data.plans import describe_read, find_whole_reads
from recdb.data.remarks import Remark
from recdb.data.timezones import describe_shift, find_shift
from recdb.data.tools import advise_index
from recdb.data.twice import check_own_store, check_twice, describe_replaced
from recdb.database import fetch_row
from recdb.errors import InvalidInput, RecdbError

Check = Callable[[psycopg.Connection, Mapped, Sequence[Mapped]], Iterator[Remark]]


def weigh_doubts(
    connection: psycopg.Connection,
    found: Sequence[Named],
    known: Mapping[int, Named],
    replaced: Collection[int],
    *,
    force: bool,
) -> list[list[Remark]]:
    """Return the doubts about each new table; raise InvalidInput for a grave one, unless `force` is set."""
    new = [look(connection, named) for named in found]
    others = [look_if_there(connection, named) for number, named in known.items() if number not in replaced]
    doubts = list(find_doubts(connection, new, [other for other in others if other]))
    for _, doubt in doubts:
        if doubt.grave and not force:
            raise InvalidInput(doubt.message, f"{doubt.fix or ''} (--force attaches it all the same)".strip())
    return [
        [
            *describe_replaced(named.relation, named.role, named.mapping, [known[number] for number in replaced]),
            *(doubt for owner, doubt in doubts if owner is mapped),
        ]
        for named, mapped in zip(found, new, strict=True)
    ]


def look_if_there(connection: psycopg.Connection, named: Named) -> Mapped | None:
    """Read some rows of a table that was attached earlier; None if it is gone."""
    try:
        return look(connection, named)
    except RecdbError:
        return None


def find_doubts(
    connection: psycopg.Connection, new: Sequence[Mapped], known: Sequence[Mapped]
) -> Iterator[tuple[Mapped, Remark]]:
    """Find the doubts about new tables beside those that are attached already; each with the table."""
    everything = [*new, *known]
    for mapped in new:
        for check in (*CHECKS, check_plans):
            if mapped.sample is None and check is not check_plans:
                continue
            for doubt in check(connection, mapped, everything):
                yield mapped, doubt
        if mapped.sample is None:
            yield mapped, Remark(f"{mapped.relation.name} gave no rows in time, so nothing of it was checked")
    if any(mapped.role == "items" for mapped in new):
        for mapped in known:
            if mapped.role == "interactions":
                for doubt in check_catalogues(connection, mapped, everything):
                    yield next(each for each in new if each.role == "items"), doubt
    for doubt in check_all(connection, everything):
        yield new[-1], doubt


# The checks ---------------------------------------------------------------------------------------------------


def check_nulls(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Mapped columns without a value: a row without a user or an item is not read."""
    assert new.sample is not None
    rows = new.sample.count
    for key in new.mapping:
        column = new.column(key)
        missing = rows - len(new.values(key))
        if not column or column not in new.sample.columns or not missing:
            continue
        needed = key == "item" or (key == "user" and new.role != "items") or (key, new.role) == ("at", "impressions")
        if missing == rows:
            yield Remark(
                f"{new.relation.name}.{column} is NULL in all {rows:,} rows read",
                f"name another column for --{option(new, key)}",
                grave=needed,
            )
        elif needed:
            yield Remark(f"{new.relation.name}.{column} is NULL in {missing:,} of {rows:,} rows: recdb leaves them out")


def is_under_several(ids: Sequence[str | None], kinds: Sequence[str | None]) -> bool:
    """Tell whether an id occurs with several kinds: a kind that only repeats a column of the item is no doubt."""
    of_id: dict[str | None, set[str | None]] = {}
    for number, kind in zip(ids, kinds, strict=True):
        of_id.setdefault(number, set()).add(kind)
    return any(len(each) > 1 for number, each in of_id.items() if number is not None)


def check_types(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """An id beside its type: several kinds of things are numbered in one column."""
    assert new.sample is not None
    for key in ("item", "user"):
        item = new.column(key)
        kind = find_type_column(item, new.relation.columns) if item else None
        if kind is None or new.role == "items":
            continue
        sample = read_again(connection, new, [kind, item])
        found = sample.values(kind) if sample else []
        told_apart = sample is None or is_under_several(sample.columns.get(item, ()), sample.columns.get(kind, ()))
        kinds = sorted(set(found), key=lambda value: (-found.count(value), value))
        if len(kinds) < 2:
            continue
        names = {
            singular(other.relation.name.split(".")[-1].strip('"')) for other in everything if other.role == "items"
        }
        wanted = next((value for value in kinds if singular(value.split(".")[-1].split("\\")[-1]) in names), kinds[0])
        counted = ", ".join(f"{value} {found.count(value):,}" for value in kinds[:3])
        condition = joined(new, "where", f"{quoted(kind)} = {literal(wanted)}")
        numbered = new.relation.columns[item].type in INTEGERS
        yield Remark(
            f"{new.relation.name}: several kinds of things are numbered in one column, {item}; {kind} tells them "
            f"apart ({counted}{', …' if len(kinds) > 3 else ''} of {len(found):,} rows)",
            usage("where", condition),
            grave=numbered and key == "item" and told_apart,
        )


def check_marks(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Deleted rows that stay in the table."""
    columns = {column.name: column.type for column in new.relation.columns.values()}
    said = " ".join(new.mapping.get(key, "") for key in ("where", "available")).lower()
    mark = find_mark(columns)
    name, key = new.relation.name, "available" if new.role == "items" else "where"
    assert new.sample is not None
    if mark and mark[0].lower() not in said:
        values = new.sample.values(mark[0])
        count = len(values) if mark[1] == "set" else sum(value in ("t", "true") for value in values)
        condition = f"{quoted(mark[0])} is {'null' if mark[1] == 'set' else 'not true'}"
        yield Remark(
            f"{name} keeps deleted rows: {mark[0]} is {'set' if mark[1] == 'set' else 'true'} in {count:,} of "
            f"{new.sample.count:,} rows, and recdb reads them too",
            usage(key, joined(new, key, condition)),
        )
    shown = find_shown(columns)
    if new.role == "items" and shown and shown.lower() not in said and not mark:
        hidden = sum(value in ("f", "false") for value in new.sample.values(shown))
        if hidden:
            yield Remark(
                f"{name}.{shown} is false in {hidden:,} of {new.sample.count:,} rows, and recommend() returns them",
                f"use --available {shown}",
            )


def check_states(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Items in a state in which nobody should see them."""
    state = find_state(new.relation.columns)
    said = " ".join(new.mapping.get(key, "") for key in ("where", "available")).lower()
    if state is None or new.role != "items" or state.lower() in said or new.sample is None:
        return
    values = new.sample.values(state)
    gone = sorted({value for value in values if GONE.match(value.lower())})
    shown = sorted(set(values) - set(gone), key=lambda value: -values.count(value))
    if not gone or not shown:
        return
    count = sum(value in gone for value in values)
    condition = f"= {literal(shown[0])}" if len(shown) == 1 else f"not in ({', '.join(map(literal, gone))})"
    yield Remark(
        f"{new.relation.name}.{state} is {' or '.join(gone[:3])} in {count:,} of {len(values):,} rows, and recommend() "
        "would return them",
        usage("available", joined(new, "available", f"{quoted(state)} {condition}")),
    )


def check_moments(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Times that say nothing: all the same, in the future, before 1990."""
    column = new.column("at")
    values = new.values("at")
    if not column or len(values) < 20:
        return
    kind = new.relation.columns[column].type
    early, late, one = fetch_row(
        connection,
        sql.SQL(
            """
            select count(*) filter (where t < '1990-01-01'), count(*) filter (where t > now() + interval '1 day'),
                count(distinct t) = 1
            from (select v::{} as t from unnest(%s::text[]) v) t
            """
        ).format(sql.SQL(kind)),
        [values],
    )
    name = f"{new.relation.name}.{column}"
    if early or late:
        parts = [f"{early:,} are before 1990" if early else "", f"{late:,} are in the future" if late else ""]
        yield Remark(
            f"{name}: of {len(values):,} times {' and '.join(part for part in parts if part)}",
            "is it the time of the interaction? name another column for --at",
        )
    elif one and kind != "date":
        yield Remark(f"{name} is the same in all {len(values):,} rows", "is it the time of the interaction?")


def check_newest(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """New rows that seem to come from the future, or from some hours ago."""
    column = new.column("at")
    if not column:
        return
    zone = new.mapping.get("timezone")
    shift = find_shift(connection, new.relation, column, zone or "UTC")
    if shift:
        kind = new.relation.columns[column].type
        yield Remark(*describe_shift(new.relation.name, column, kind, shift, zone))


def check_plans(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Tables that a view, or a condition, reads whole for one user or one item."""
    for whole in find_whole_reads(connection, new.relation, new.role, new.mapping):
        message, fix = describe_read(connection, new.relation.name, whole)
        yield Remark(message, advise_index(connection, whole.indexed, fix) if fix and whole.columns else fix)


CHECKS: Sequence[Check] = (
    check_nulls,
    check_types,
    check_catalogues,
    check_users,
    check_twice,
    check_own_store,
    check_marks,
    check_states,
    check_moments,
    check_newest,
    check_embeddings,
)
