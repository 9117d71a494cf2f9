"""The embedding of an item in an attached table: the column, and doubts about its values."""

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from recdb.data.mapped import Mapped, quoted
from recdb.data.remarks import Remark
from recdb.data.samples import ROWS, try_to_read, ways_to_read
from recdb.data.sources import Relation, identifier
from recdb.database import fetch_row
from recdb.errors import InvalidInput

WIDEST = 4000
TYPES = "vector, halfvec, arrays of numbers, and text or JSON such as [0.1, 0.2]"


def read_embedding(
    connection: psycopg.Connection, relation: Relation, mapping: dict[str, str]
) -> sql.Composable | None:
    """Return the column that the mapping names, in its own type; it may be named with its table: post.embedding.

    The mapping gets the name of the column alone. Raises InvalidInput for a column or a type that recdb cannot read.
    """
    given = mapping.get("embedding")
    if given is None:
        return None
    name = given
    if relation.column(given) is None and "." in given:
        table, _, name = given.rpartition(".")
        bare = [part.strip('"') for part in relation.name.split(".")]
        if [part.strip('"') for part in table.split(".")] not in (bare, bare[1:]):
            raise InvalidInput(
                f"--embedding {given}: {table} is not {relation.name}, the table of the items",
                f"attach a view that joins both, with a column for the embedding: create view ... as select i.*, "
                f"{given} from {relation.name} i left join {table} on ...",
            )
    column = relation.require(name, "--embedding")
    mapping["embedding"] = column.name
    (readable, width) = fetch_row(
        connection,
        "select recdb.as_embedding('x', recdb.mapped_type(%(table)s, %(column)s)) is not null, "
        "(select a.atttypmod from pg_attribute a "
        "where a.attrelid = %(table)s::regclass and a.attname = %(column)s and recdb.is_vector(a.atttypid))",
        {"table": relation.name, "column": column.name},
    )
    if not readable:
        cast = f"{quoted(column.name)}::vector" if column.type.endswith("sparsevec") else "a cast of it"
        raise InvalidInput(
            f"{relation.name}.{column.name} (--embedding) is of type {column.type}, which recdb does not read as "
            "embeddings",
            f"recdb reads {TYPES}; for another type attach a view that has {cast}",
        )
    if width is not None and width > WIDEST:
        raise InvalidInput(
            f"{relation.name}.{column.name} (--embedding) is {width:,} numbers wide: recdb reads at most {WIDEST:,}, "
            "as pgvector's indexes do",
            "attach a view that has its first numbers, if the model allows that, or use a smaller model",
        )
    return identifier(column)


def check_embeddings(connection: psycopg.Connection, new: Mapped, everything: Sequence[Mapped]) -> Iterator[Remark]:
    """Embeddings that recdb cannot use: missing, of several widths, too wide, all 0, not finite."""
    column = new.column("embedding")
    if new.role != "items" or not column:
        return
    (form,) = fetch_row(
        connection, "select recdb.as_embedding('x', recdb.mapped_type(%s, %s))", [new.relation.name, column]
    )
    for part, order in ways_to_read(connection, new.relation):
        query = sql.SQL(
            "select e.width::text, count(*)::text from ("
            "select case when x is null then -1 else coalesce(cardinality({form}), 0) end as width "
            "from (select {column} as x from {relation} {part} {order} limit {rows}) s"
            ") e group by 1 order by count(*) desc, 1"
        ).format(
            form=sql.SQL(form),
            column=sql.Identifier(column),
            relation=new.relation.identifier,
            part=part,
            order=order,
            rows=ROWS,
        )
        found = try_to_read(connection, query)
        if found is not None:
            break
    else:
        return
    counts = {int(str(width)): int(str(count)) for width, count in found}
    rows, missing, useless = sum(counts.values()), counts.pop(-1, 0), counts.pop(0, 0)
    name = f"{new.relation.name}.{column}"
    if missing == rows:
        if rows:
            yield Remark(f"{name} is NULL in all {rows:,} rows read", "name another column for --embedding")
        return
    if connection.execute("select 1 from recdb.item_embedding limit 1").fetchone():
        yield Remark(
            f"the embeddings that recdb embed made do not compare with those in {name}: of this table they no longer "
            "count",
            "recdb embed --remove",
        )
    if missing:
        yield Remark(
            f"{name} is NULL in {missing:,} of {rows:,} rows read: of these items, attributes and owner alone count"
        )
    if useless:
        yield Remark(
            f"{useless:,} of {rows - missing:,} embeddings in {name} count as missing: they are all 0, not finite, not "
            f"numbers, or wider than {WIDEST:,}"
        )
    if len(counts) > 1:
        widths = ", ".join(f"{count:,} of {width:,}" for width, count in counts.items())
        most = next(iter(counts))
        yield Remark(
            f"{name} has embeddings of several widths ({widths} numbers): only those of the commonest width, {most:,} "
            "here, count; the others compare with nothing",
            "embed all items with one model",
        )
