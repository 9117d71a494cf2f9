"""Rows that would count twice: read by two mappings, by a table and a view of it, or loaded and attached."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from recdb.data.mapped import Mapped, Named
from recdb.data.remarks import Remark
from recdb.data.samples import count_in_sample, try_to_read

MOST = 0.5


def check_twice(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Another mapping of the same table, or of a table that a view reads."""
    if new.role == "items" or new.sample is None:
        return
    name = new.relation.name
    place = next(number for number, other in enumerate(everything) if other is new)
    for number, other in enumerate(everything):
        if other is new or other.role != new.role:
            continue
        if other.relation.name == name:
            same = new.column("user") == other.column("user") and new.column("item") == other.column("item")
            if number < place or not same:
                continue
            both = count_in_sample(connection, new.relation, new.mapping.get("where"), other.mapping.get("where"))
            if both:
                yield Remark(
                    f"{name} is named twice, and both mappings read {both:,} of {new.sample.count:,} rows: they count "
                    "twice",
                    "give each mapping a --where of its own, or leave one out",
                    grave=new.mapping == other.mapping,
                )
        elif reads(connection, name, other.relation.name):
            yield Remark(
                f"{name} reads {other.relation.name}, which is attached too: rows that both have count twice",
                f"recdb detach {other.relation.name}",
            )
        elif number < place and reads(connection, other.relation.name, name):
            yield Remark(
                f"{other.relation.name} reads {name}, which is attached too: rows that both have count twice",
                f"recdb detach {other.relation.name}",
            )


def check_own_store(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Rows that recdb's own store holds too, as after `recdb load` of the same table."""
    if new.role != "interactions" or new.sample is None:
        return
    user, item = (new.sample.columns.get(new.column(key), ()) for key in ("user", "item"))
    pairs = sorted({(u, i) for u, i in zip(user, item, strict=False) if u is not None and i is not None})
    query = sql.SQL(
        "select distinct i.user_id, i.item_id from recdb.interaction i "
        "where i.user_id = any ({}::text[]) and i.item_id = any ({}::text[])"
    ).format(sql.Literal(sorted({u for u, _ in pairs})), sql.Literal(sorted({i for _, i in pairs})))
    rows = try_to_read(connection, query) if pairs else None
    count = len(set(pairs) & {(user, item) for user, item in rows or ()})
    if count > MOST * len(pairs):
        yield Remark(
            f"{count:,} of {len(pairs):,} pairs of a user and an item of {new.relation.name} are in recdb's own store "
            "too, and count twice",
            "if they were loaded from this table: delete from recdb.interaction;",
        )


def describe_replaced(
    relation: str, role: str, mapping: Mapping[str, str], replaced: Iterable[Named]
) -> Iterator[Remark]:
    """Say which mapping of the same table a new one replaces."""
    for old in replaced:
        if (old.relation, old.role) == (relation, role) and dict(old.mapping) != dict(mapping):
            said = ", ".join(f"{key} {value}" for key, value in old.mapping.items())
            yield Remark(
                f"this replaces the mapping that {relation} had: {said}",
                "to read both, name both in one command, the second with --also" if role == "interactions" else None,
            )


def reads(connection: psycopg.Connection, upper: str, lower: str) -> bool:
    """Tell whether a view reads another relation, or a table is the parent of another."""
    row = connection.execute(
        """
        with recursive beneath as (
            select %s::regclass::oid as oid
            union
            select f.oid
            from beneath b
            cross join lateral (
                select d.refobjid
                from pg_rewrite r
                join pg_depend d
                    on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
                where r.ev_class = b.oid
                union all
                select i.inhrelid from pg_inherits i where i.inhparent = b.oid
            ) f(oid)
        )
        select from beneath b where b.oid = %s::regclass and b.oid <> %s::regclass
        """,
        [upper, lower, upper],
    ).fetchone()
    return row is not None
