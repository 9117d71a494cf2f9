"""What another role made before or beside recdb does not run with the rights of whoever installs or trains."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train

from recdb import job, migrate
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database, connect
from recdb.doctor import Finding, examine
from recdb.errors import RecdbError

SUPERUSER_FUNCTION = """
create function {schema}.take() returns trigger language plpgsql as $$
begin
    execute format('alter role mallory superuser');
    return new;
end $$
"""


@pytest.fixture
def mallory(other_database: Callable[[], Database]) -> Iterator[tuple[Database, Database]]:
    """An empty database, for its superuser and for a role that may create schemas and in public."""
    database = other_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create role mallory login")
        connection.execute(f"grant create on database {connection.info.dbname} to mallory")
        connection.execute("grant create on schema public to mallory")
    yield database, Database(make_conninfo(database.conninfo, user="mallory"), "test")


def findings(database: Database) -> dict[str, Finding]:
    with connect(database, autocommit=True) as connection:
        return {finding.check: finding for finding in examine(connection)}


def is_superuser(database: Database) -> bool:
    with psycopg.connect(database.conninfo) as connection:
        row = connection.execute("select rolsuper from pg_roles where rolname = 'mallory'").fetchone()
        return bool(row and row[0])


def test_a_schema_that_another_role_made_is_refused(mallory: tuple[Database, Database]) -> None:
    database, theirs = mallory
    with psycopg.connect(theirs.conninfo, autocommit=True) as connection:
        connection.execute("create schema recdb; create table recdb.alembic_version (version_num varchar(32))")
        connection.execute(SUPERUSER_FUNCTION.format(schema="recdb"))
        connection.execute("create trigger t before insert on recdb.alembic_version execute function recdb.take()")
    with pytest.raises(RecdbError, match="schema recdb belongs to mallory, and this role is postgres") as refused:
        migrate.upgrade(database)
    assert (
        refused.value.hint == "connect as mallory; or, if recdb was never installed there: drop schema recdb cascade;"
    )
    assert not is_superuser(database)

    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("alter schema recdb owner to postgres")
    with pytest.raises(RecdbError, match=r"do not belong to postgres: recdb.alembic_version, recdb.take\(\)"):
        migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("drop schema recdb cascade")
    migrate.upgrade(database)
    assert not is_superuser(database)


def test_a_version_table_that_is_a_view_is_not_read(mallory: tuple[Database, Database]) -> None:
    """Every command reads it first, a superuser's too."""
    database, theirs = mallory
    with psycopg.connect(theirs.conninfo, autocommit=True) as connection:
        connection.execute("create schema recdb")
        connection.execute(
            "create function recdb.take() returns text language plpgsql as "
            "$$ begin alter role mallory superuser; return '0001'; end $$"
        )
        connection.execute("create view recdb.alembic_version as select recdb.take() as version_num")
    with connect(database) as connection, pytest.raises(RecdbError, match="not installed"):
        migrate.require_installed(connection)
    assert findings(database)["recdb"].state == "fail"
    assert not is_superuser(database)


def test_a_function_named_recommend_of_another_role_is_refused(mallory: tuple[Database, Database]) -> None:
    """Whoever owns public.recommend() could replace it, and every caller would run it."""
    database, theirs = mallory
    with psycopg.connect(theirs.conninfo, autocommit=True) as connection:
        connection.execute(
            "create function public.recommend(user_id text, k bigint default 50, exclude text[] default '{}', "
            "fallback text default 'none', filter jsonb default null, model text default null, "
            "among text[] default null, scenario text default null, segment jsonb default null) "
            "returns table (item_id text, score double precision, reason text, model_version text) "
            "language sql as $$ select '', 0::float8, '', '' $$"
        )
        connection.execute(
            "comment on function public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb) "
            "is 'recdb: the same'"
        )
    with pytest.raises(RecdbError, match="has a function public"):
        migrate.upgrade(database)


def test_an_install_by_another_role_is_refused_and_splits_no_ownership(
    other_database: Callable[[], Database],
) -> None:
    database = other_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute("create role shop login; create role shop_owner; grant shop_owner to shop")
        connection.execute(f"alter database {connection.info.dbname} owner to shop_owner")
        connection.execute("grant create on schema public to shop_owner")
        for role in migrate.ROLES:
            connection.execute(f"create role {role}; grant {role} to shop_owner with admin option")
    shop = make_conninfo(database.conninfo, user="shop")
    as_owner = Database(make_conninfo(shop, options="-c role=shop_owner"), "test")
    migrate.upgrade(as_owner)
    with pytest.raises(RecdbError, match="schema recdb belongs to shop_owner, and this role is shop") as refused:
        migrate.upgrade(Database(shop, "test"))
    assert refused.value.hint and refused.value.hint.startswith("add to the URL: ?options=-c%20role%3Dshop_owner")
    migrate.upgrade(as_owner)
    with connect(as_owner, autocommit=True) as connection:
        record(connection, tastes())
    train(as_owner)
    with pytest.raises(RecdbError, match="belongs to shop_owner"):
        job.run(Database(shop, "test"), full=True)
    with psycopg.connect(database.conninfo) as connection:
        owners = connection.execute(
            "select distinct relowner::regrole::text from pg_class where relnamespace = 'recdb'::regnamespace"
        ).fetchall()
    assert owners == [("shop_owner",)]
    assert findings(as_owner)["owner"].state == "ok"


@pytest.mark.parametrize("where", ["the view itself", "a view beneath"])
def test_a_view_of_another_role_is_not_attached(database: Database, db: psycopg.Connection, where: str) -> None:
    """Its functions would run as recdb's owner, whenever somebody calls recommend()."""
    db.execute("create role mallory; grant create on schema public to mallory")
    try:
        db.execute("create table public.event (who text, what text); insert into public.event values ('u1', 'i1')")
        db.execute("grant select on public.event to mallory")
        db.execute("set role mallory")
        db.execute("create view public.theirs as select who, what from public.event")
        db.execute("reset role")
        if where == "a view beneath":
            db.execute("create view public.ours as select * from public.theirs")
        name = "public.theirs" if where == "the view itself" else "public.ours"
        source = Source("interactions", name, {"user": "who", "item": "what", "kind": "'view'"})
        with pytest.raises(RecdbError, match="theirs belongs to a role that is not postgres") as refused:
            attach(database, [source])
        assert refused.value.hint
        db.execute(refused.value.hint)
        attach(database, [source])
        assert db.execute("select user_id, item_id from recdb.interactions").fetchall() == [("u1", "i1")]

        db.execute("alter view public.theirs owner to mallory")
        finding = findings(database)["attached"]
        assert finding.state == "fail" and "public.theirs" in finding.message
    finally:
        db.execute("reset role")
        db.execute("drop owned by mallory cascade; drop role mallory")


def test_no_row_of_another_roles_view_is_read_before_it_is_refused(database: Database, db: psycopg.Connection) -> None:
    db.execute("create role mallory; create schema theirs authorization mallory; grant mallory to postgres")
    try:
        db.execute("set role mallory")
        db.execute("create sequence theirs.runs")
        db.execute(
            "create view theirs.event as select nextval('theirs.runs')::text as id, 'u1'::text as who, "
            "'like'::text as how, now() as at"
        )
        db.execute("reset role")
        interactions = {"user": "who", "item": "id", "kind": "how", "at": "at", "where": "who <> 'x'"}
        for source in (
            Source("items", "theirs.event", {"item": "id", "published": "at"}),
            Source("interactions", "theirs.event", interactions),
        ):
            with pytest.raises(RecdbError, match="belongs to a role that is not postgres"):
                attach(database, [source])
        assert db.execute("select is_called from theirs.runs").fetchone() == (False,)
    finally:
        db.execute("reset role")
        db.execute("drop owned by mallory cascade; drop role mallory")


def test_pgvector_in_a_schema_of_another_role_is_refused(mallory: tuple[Database, Database]) -> None:
    """Its owner could rename it, and make another schema of that name with operators of its own."""
    database, theirs = mallory
    with psycopg.connect(theirs.conninfo, autocommit=True) as connection:
        connection.execute("create schema vec")
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create extension vector schema vec")
        with pytest.raises(RecdbError, match="pgvector is in schema vec of mallory") as refused:
            migrate.upgrade(database)
        assert refused.value.hint == "a superuser runs: alter extension vector set schema public;"
        connection.execute("alter extension vector set schema public")
        migrate.upgrade(database)
        connection.execute("alter schema public owner to mallory")
        finding = findings(database)["schemas"]
        assert finding.state == "fail" and "schema public of mallory" in finding.message
        connection.execute("alter schema public owner to pg_database_owner")
        assert findings(database)["schemas"].state != "fail"


def test_the_extension_may_move_and_init_follows_it(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    before = db.execute("select * from recdb.recommend('u1', 5)").fetchall()
    assert before and findings(database)["schemas"].state == "ok"
    db.execute("create schema elsewhere; alter extension vector set schema elsewhere")
    finding = findings(database)["schemas"]
    assert (finding.state, finding.fix) == ("fail", "recdb init")
    migrate.upgrade(database)
    assert db.execute("select * from recdb.recommend('u1', 5)").fetchall() == before
    assert findings(database)["schemas"].state == "ok"


def test_doctor_says_who_may_create_where_recdbs_operators_are(database: Database, db: psycopg.Connection) -> None:
    assert findings(database)["owner"].state == "ok"  # nobody else can log in
    db.execute("create role guest login")
    try:
        db.execute("grant create on schema public to guest")
        finding = findings(database)["schemas"]
        assert finding.state == "warn" and finding.message.startswith("guest may create in schema public")
        assert finding.fix == "revoke create on schema public from guest, public;"
        db.execute(finding.fix)
        assert findings(database)["schemas"].state == "ok"
        finding = findings(database)["owner"]
        assert finding.state == "warn" and finding.message.startswith("postgres owns recdb and is a superuser")
        assert "recdb uninstall deletes all interactions" in str(finding.fix)
    finally:
        db.execute("drop owned by guest; drop role guest")


def test_an_installation_may_have_roles_of_its_own(other_database: Callable[[], Database]) -> None:
    """Two databases of one server, where a reader of one is nobody in the other."""
    shop, news = other_database(), other_database()
    migrate.upgrade(shop, role_prefix="shop")
    migrate.upgrade(news)
    with connect(shop, autocommit=True) as connection:
        record(connection, tastes())
    train(shop)
    attach_something(shop)
    for database, role, allowed in ((shop, "shop", True), (shop, "recdb", False), (news, "shop", False)):
        with psycopg.connect(database.conninfo) as connection:
            connection.execute(f"set role {role}_reader")
            if allowed:
                assert connection.execute("select * from recdb.recommend('u1')").fetchall()
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("select * from recdb.recommend('u1')")
    found = findings(shop)
    assert found["roles"].message.startswith("shop_reader, shop_writer, shop_analyst, shop_maintainer")
    migrate.upgrade(shop)
    migrate.upgrade(shop, role_prefix="shop")
    with pytest.raises(RecdbError, match="begin with shop_"):
        migrate.upgrade(shop, role_prefix="other")
    with pytest.raises(RecdbError, match="is no prefix"):
        migrate.upgrade(other_database(), role_prefix='a"; drop role shop_reader; --')
    migrate.uninstall(shop)
    with psycopg.connect(news.conninfo) as connection:
        roles = connection.execute("select rolname from pg_roles where rolname ~ '_reader$' and oid > 16383").fetchall()
    assert roles == [("recdb_reader",)]


def attach_something(database: Database) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create table public.event (who text, what text)")
    attach(database, [Source("interactions", "public.event", {"user": "who", "item": "what", "kind": "'view'"})])
