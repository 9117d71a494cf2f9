"""The check of the catalogue's embeddings."""

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict

ITEMS_READ = 20_000


def check_stored_embeddings(connection: psycopg.Connection) -> Verdict | None:
    """Items have embeddings of one width. Reads some thousand items, and their embeddings."""
    rows = connection.execute(
        "select cardinality(i.embedding) as width, count(*) from (select * from recdb.items limit %s) i "
        "group by 1 order by count(*) desc, 1",
        [ITEMS_READ],
    ).fetchall()
    widths = {int(width): int(count) for width, count in rows if width is not None}
    if not widths:
        return None
    total = sum(count for _, count in rows)
    width, most = next(iter(widths.items()))
    if len(widths) > 1:
        others = ", ".join(f"{count:,} of {other:,}" for other, count in widths.items() if other != width)
        return Verdict(
            "warn",
            f"embeddings have several widths, {most:,} of {width:,} numbers, {others}: only those of {width:,} count",
            "embed all items with one model",
        )
    made = connection.execute("select 1 from recdb.embedding_basis").fetchone()
    (others,) = fetch_row(
        connection,
        "select count(*) from (select * from recdb.items limit %s) i where i.embedding is not null and not exists ("
        "select from recdb.item_embedding e where e.item_id = i.item_id and e.embedding = i.embedding)",
        [ITEMS_READ],
    )
    if made and 0 < others < most:
        return Verdict(
            "warn",
            f"recdb embed made {most - others:,} of {most:,} embeddings, and the others do not compare with them: "
            "only the commoner ones count",
            "recdb embed --remove",
        )
    if made and total - most > total / 10:
        return Verdict("warn", f"{total - most:,} of {total:,} items have no embedding", "recdb embed")
    return Verdict("ok", f"{most:,} of {total:,} items have an embedding of {width:,} numbers")
