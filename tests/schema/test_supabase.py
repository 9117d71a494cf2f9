"""A project on Supabase, built by the commands of docs/supabase.md alone: who gets which list, what stays closed."""

import sys
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from support import supabase
from support.doctor import find, findings
from support.documents import DOCS, read_steps, run_step
from support.outside import enter_shell
from support.servers import since
from support.supabase import request, rpc

from recdb import migrate
from recdb.database import Database

RECOMMEND_ME = {"k": "bigint", "exclude": "text[]", "fallback": "text"}
EXPLAIN_ME = {"item_id": "text"}


def person(number: int) -> str:
    return str(UUID(md5(f"person {number}".encode()).hexdigest()))


@pytest.fixture
def project(
    other_database: Callable[[], Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """The project after all commands of the page, as its owner reaches it; the owner is no superuser."""
    database = supabase.build(other_database())
    with monkeypatch.context() as patch:
        name = psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
        enter_shell(patch, database, tmp_path, PGDATABASE=str(name))
        patch.setattr(sys, "argv", [])
        for step in read_steps((DOCS / "supabase.md").read_text(encoding="utf-8")):
            run_step(step)
    with psycopg.connect(database.conninfo, autocommit=True) as owner:
        if owner.info.server_version < 160000:  # which knows no `with inherit true`: the page says what to do there
            owner.execute("grant recdb_self to authenticated; grant recdb_reader, recdb_writer to service_role")
            owner.execute(find(owner, "memberships").fix or "")  # type: ignore[call-overload]
    yield database


def refused(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


def test_each_user_gets_their_own_list_and_nobody_elses(project: Database) -> None:
    with psycopg.connect(project.conninfo) as owner:
        call = "select item_id, score, reason from recommend(%s, 5)"
        lists = {n: owner.execute(call, [person(n)]).fetchall() for n in (7, 8)}
        # A join reads the posts with the owner's rights; a post of one's own never comes.
        own = owner.execute("select id::text from posts where author = %s", [person(7)]).fetchall()
    assert lists[7] and lists[8] and lists[7] != lists[8]
    assert not {row[0] for row in lists[7]} & {row[0] for row in own}

    for number, expected in lists.items():
        with request(project, "authenticated", person(number)) as browser:
            assert rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME) == expected
            first = expected[0][0]
            assert rpc(browser, "recommend_me", {"k": 4, "exclude": [int(first)]}, RECOMMEND_ME) == expected[1:]
            for call in (
                "recdb.recommend_me(k => 4, exclude => array[%s])",
                "recdb.recommend_me(4, exclude_list => '[%s]')",
            ):
                rows = browser.execute(sql.SQL(f"select item_id, score, reason from {call % first}"))  # type: ignore[arg-type]
                assert rows.fetchall() == expected[1:]
            reasons = rpc(browser, "explain_me", {"item_id": int(first)}, EXPLAIN_ME)
            assert sum(row[2] for row in reasons) == pytest.approx(expected[0][1], abs=1e-8)
            liked = {row[0] for row in browser.execute("select post_id::text from public.likes").fetchall()}
            assert {row[1] for row in reasons if row[0] == "item"} <= liked
            assert len([row for row in reasons if row[0] == "neighbors"]) <= 1
            for call in ("recdb.explain_me(%s)", "recdb.explain_me(item_id => %s)"):
                assert browser.execute(f"select * from {call}", [int(first)]).fetchall() == reasons
            # A setting of the default function no longer counts.
            browser.execute(f"set local recdb.user_id = '{person(9)}'")
            assert rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME) == expected

    with request(project, "authenticated") as nobody:
        assert rpc(nobody, "recommend_me", {}, RECOMMEND_ME) == []
        assert rpc(nobody, "explain_me", {"item_id": 1}, EXPLAIN_ME) == []
        popular = rpc(nobody, "recommend_me", {"k": 5, "fallback": "popular"}, RECOMMEND_ME)
        assert [row[2] for row in popular] == ["popular"] * 5


def test_a_like_of_this_request_counts_in_its_list(project: Database) -> None:
    with request(project, "authenticated", person(7)) as browser:
        (first, *_), *rest = rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME)
        browser.execute("insert into public.likes (user_id, post_id) values (auth.uid(), %s)", [int(first)])
        after = rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME)
        assert first not in [row[0] for row in after]
        assert rest


def test_who_asks_for_themselves_may_do_nothing_else(project: Database) -> None:
    closed = [
        "select * from public.recommend('u', 5)", "select * from recommend(auth.uid())",
        "select recdb.current_user_id()",
        "select * from recdb.recommend('u', 5)", "select * from recdb.explain('u', 'i')",
        "select * from recdb.popular()",
        "select recdb.track('u', 'i', 'like')", "select recdb.forget_user('u')", "select * from recdb.neighbors('u')",
        "select * from recdb.similar_items('1')", "select * from recdb.interaction", "select * from recdb.config",
        "select * from recdb.items", "select * from recdb.show_interactions()", "select * from recdb.user_vectors",
        "call recdb.refresh()",
        "create or replace function recdb.current_user_id() returns text language sql as $$ select 'u' $$",
    ]  # fmt: skip
    with request(project, "authenticated", person(7)) as browser:
        browser.execute("set local search_path = public")
        for statement in closed:
            refused(browser, statement)
        assert browser.execute("select count(distinct user_id) from public.likes").fetchone() == (1,)
    with request(project, "anon") as guest:
        for schema in ("recdb", "public"):
            closed += [f"select * from {schema}.recommend_me()", f"select * from {schema}.explain_me('1')"]
        for statement in closed:
            refused(guest, statement)
    with request(project, "service_role") as server:
        asked = server.execute("select * from public.recommend(%s::uuid, 3, array[5])", [person(7)]).fetchall()
        assert len(asked) == 3
        refused(server, "select recdb.forget_user('u')")


def test_the_callers_own_types_run_nothing_as_the_owner(project: Database) -> None:
    """A cast of a caller's type is code of the caller's: it runs with their rights, before the owner's begin."""
    with psycopg.connect(project.conninfo, autocommit=True) as owner:
        owner.execute("create schema playground; grant all on schema playground to authenticated")
    with request(project, "authenticated", person(7)) as browser:
        browser.execute(
            "create table playground.ran (who text); grant all on playground.ran to public; "
            "create type playground.trick as enum ('1'); "
            "create function playground.to_text(playground.trick) returns text language plpgsql as $$ "
            "begin insert into playground.ran values (current_user); return '1'; end $$; "
            "create cast (playground.trick as text) with function playground.to_text(playground.trick)"
        )
        browser.execute("select * from recdb.explain_me('1'::playground.trick)")
        assert set(browser.execute("select who from playground.ran").fetchall()) == {("authenticated",)}


def test_a_replay_and_an_upgrade_keep_who_asks(project: Database) -> None:
    with request(project, "authenticated", person(7)) as browser:
        before = rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME)
    migrate.upgrade(project)
    with request(project, "authenticated", person(7)) as browser:
        assert rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME) == before
    assert migrate.uninstall(project) == []


def test_doctor_finds_a_grant_without_effect_and_its_statement_works(project: Database) -> None:
    with psycopg.connect(project.conninfo, autocommit=True) as owner:
        since(16, owner)
        owner.execute("grant recdb_self to authenticated with inherit false; grant recdb_reader to anon")
        found = find(owner, "memberships")
        assert found.state == "warn"
        assert "recdb_reader to anon, recdb_self to authenticated" in found.message
        assert found.fix is not None
        owner.execute(found.fix)  # type: ignore[call-overload]
        assert "memberships" not in {finding.check for finding in findings(owner).values()}
    with request(project, "authenticated", person(7)) as browser:
        assert rpc(browser, "recommend_me", {"k": 5}, RECOMMEND_ME)
