"""Checks of the application's own tables that recdb reads."""

import psycopg

from recdb.data.plans import describe_read, find_whole_reads
from recdb.data.sources import Relation, Role, find_relation
from recdb.data.timezones import describe_shift, find_shift
from recdb.data.tools import advise_index
from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, some
from recdb.public import FORMS

SECONDS_OF_ROWS = 20.0


def check_parts(connection: psycopg.Connection) -> Verdict | None:
    """Nothing that recdb needs went with something that an application dropped."""
    try:
        with connection.transaction():
            connection.execute("select recdb.check_sources()")
    except psycopg.errors.InsufficientPrivilege as error:
        if error.diag.message_hint is None:  # this role may not ask
            raise
        return Verdict("fail", error.diag.message_primary or "", error.diag.message_hint)
    rows = connection.execute("select problem, hint from recdb.broken()").fetchall()
    (published,) = fetch_row(
        connection,
        "select (select count(*) from pg_proc p where p.proname = 'recommend' and p.pronamespace = "
        "to_regnamespace('public') and obj_description(p.oid, 'pg_proc') like 'recdb: %%') = %s",
        [FORMS],
    )
    if not published:
        rows.append(("public.recommend is missing", "Run: recdb init"))
    caller = find_caller_problem(connection)
    rows += [(problem, hint) for problem, hint, fails in caller if fails]
    if rows:
        return Verdict("fail", "; ".join(problem for problem, _ in rows), join_hints([hint for _, hint in rows]))
    for problem, hint, _ in caller:
        return Verdict("warn", problem, hint)
    return Verdict("ok", "nothing of recdb is missing")


def join_hints(hints: list[str]) -> str:
    """Write several hints as one, a line for each; a hint that another one begins with is said already."""
    fixes = list(dict.fromkeys(hint.removeprefix("Run: ") for hint in hints))
    return "\n".join(fix for fix in fixes if not any(other != fix and other.startswith(fix) for other in fixes))


def find_caller_problem(connection: psycopg.Connection) -> list[tuple[str, str, bool]]:
    """Ask why recommend_me() cannot tell who calls it: the problem, the remedy, and whether it fails for everybody."""
    if fetch_row(connection, "select to_regprocedure('recdb.caller_problem()') is null") == (True,):
        return []  # broken() says so
    return connection.execute("select problem, hint, fails from recdb.caller_problem()").fetchall()


def check_rows(connection: psycopg.Connection) -> Verdict | None:
    """Every row of the attached tables can be read: no cast, function or policy of the application fails for one."""
    rows = connection.execute(
        "select relation, rows, complete, problem, hint from recdb.failing_sources(%s)", [SECONDS_OF_ROWS]
    ).fetchall()
    failing = [(problem, hint) for *_, problem, hint in rows if problem]
    if failing:
        hints = dict.fromkeys(hint for _, hint in failing)
        return Verdict("fail", "; ".join(problem for problem, _ in failing), " ".join(hints))
    short = [f"the first {count:,} rows of {relation}" for relation, count, complete, *_ in rows if not complete]
    if short:
        return Verdict("ok", f"{some(short)} can be read: there was no time for more")
    return Verdict("ok", "every row of the attached tables can be read") if rows else None


def check_attached(connection: psycopg.Connection) -> Verdict | None:
    """Attached tables: recdb's owner can read all their rows, and their indexes serve recdb's queries."""
    verdict = find_trouble(connection)
    if verdict:
        return verdict
    (relations,) = fetch_row(connection, "select array(select distinct a.relation from recdb.attachment a order by 1)")
    if not relations:
        return None
    mistaken = connection.execute("select relation, catalogue, statement from recdb.mistaken_items()").fetchall()
    if mistaken:
        tables = some(list(dict.fromkeys(relation for relation, *_ in mistaken)))
        message = f"{tables}: its item ids belong to another table than those of {mistaken[0][1]}"
        return Verdict("warn", message, " ".join(statement for *_, statement in mistaken))
    missing = connection.execute("select relation, reason, statement from recdb.missing_indexes()").fetchall()
    if missing:
        tables = some(list(dict.fromkeys(relation for relation, *_ in missing)))
        message = f"an index that recdb needs is missing: {tables}: {missing[0][1]}"
        advice = [advise_index(connection, relation, statement) for relation, _, statement in missing]
        return Verdict("warn", message, "\n".join(advice))
    return Verdict("ok", f"{some(relations)}, read by index")


def find_trouble(connection: psycopg.Connection) -> Verdict | None:
    """The attached tables that recdb cannot read, or of which it may see no rows, or should not read."""
    hidden = connection.execute("select relation, statement from recdb.hidden_sources() order by relation").fetchall()
    if hidden:
        tables = some([relation for relation, _ in hidden])
        message = f"row-level security may hide rows of {tables} from recdb: lists are empty, and no refresh runs"
        return Verdict("fail", message, " ".join(dict.fromkeys(statement for _, statement in hidden)))
    catalogues = connection.execute("select relation, effect, wrong, hint from recdb.unread_items()").fetchall()
    for relation, effect, wrong, hint in catalogues:
        if wrong:
            return Verdict("fail", f"recdb cannot read {relation}: {effect}", hint)
    (gone,) = fetch_row(
        connection,
        "select array(select distinct a.relation from recdb.attachment a where a.state = 'missing' order by 1)",
    )
    if gone:
        message = f"recdb cannot read {some(gone)}: the rows do not count until recdb init can read them again"
        detach = "; ".join(f"recdb detach {relation}" for relation in gone)
        return Verdict("warn", message, f"recdb attach with the new names; or for good: {detach}")
    owner, foreign = fetch_row(
        connection,
        """
        select n.nspowner::regrole::text, array(
            select distinct h::text
            from recdb.attachment a, unnest(a.reads) r(name), recdb.foreign_views(to_regclass(r.name)) h)
        from pg_namespace n where n.nspname = 'recdb'
        """,
    )
    if foreign:
        statements = " ".join(f"alter view {view} owner to {owner};" for view in foreign)
        message = f"functions of others would run as {owner}, for they own {some(foreign)}"
        return Verdict("fail", message, statements)
    for relation, effect, _, hint in catalogues:
        return Verdict("warn", f"{relation}: {effect}", hint)
    return None


def check_weights(connection: psycopg.Connection) -> Verdict | None:
    """The weighted interactions have their rows: some restores leave them out."""
    (ready,) = fetch_row(connection, "select recdb.weights_ready()")
    if ready:
        return Verdict("ok", "the weighted interactions can be read")
    return Verdict("fail", "a restore left the weighted interactions without their rows", "recdb refresh")


def check_sources(connection: psycopg.Connection) -> Verdict | None:
    """Attached views and conditions: no table beneath them is read whole for one user or one item."""
    found = [
        (describe_read(connection, relation.name, whole), whole)
        for role, relation, mapping in attached_relations(connection)
        for whole in find_whole_reads(connection, relation, role, mapping)
    ]
    if not found:
        return None
    advice = [
        advise_index(connection, whole.indexed, fix) if whole.columns and fix else fix for (_, fix), whole in found
    ]
    return Verdict("warn", found[0][0][0], "\n".join(dict.fromkeys(text for text in advice if text)))


def check_clock(connection: psycopg.Connection) -> Verdict | None:
    """The newest rows of attached tables agree with the clock."""
    for role, relation, mapping in attached_relations(connection):
        column = relation.column(mapping.get("at", "")) if role != "items" else None
        zone = mapping.get("timezone")
        shift = find_shift(connection, relation, column.name, zone or "UTC") if column else None
        if column and shift:
            return Verdict("warn", *describe_shift(relation.name, column.name, column.type, shift, zone))
    return None


def attached_relations(connection: psycopg.Connection) -> list[tuple[Role, Relation, dict[str, str]]]:
    """Find the attached tables and views that are still there."""
    rows = connection.execute(
        "select role, relation, mapping from recdb.attachment "
        "where state = 'read' and to_regclass(relation) is not null order by attachment_id"
    ).fetchall()
    return [(role, find_relation(connection, relation), mapping) for role, relation, mapping in rows]
