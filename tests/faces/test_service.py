"""The HTTP service: its answers to good and bad requests, and while the database is down or busy."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.data import column, record, tastes, train
from support.servers import Server
from support.serving import serving
from support.waiting import until, waits_for_a_lock

import recdb
from recdb import migrate
from recdb.cli import main
from recdb.database import Database
from recdb.service import backend
from recdb.service.bodies import Error
from recdb.service.observe import MAX_BODY

ROLE = "recdb_http_test"
GENERATE = "/recommendations/generate"
FUZZING = Path(__file__).parent / "schemathesis.toml"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def application(module_database: Database) -> Iterator[Database]:
    """The module's database with a model, as a role that has only recdb_reader and recdb_writer."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id) values ('untouched')")
        train(module_database)
        connection.execute(f"create role {ROLE} login in role recdb_reader, recdb_writer")
        yield Database(make_conninfo(module_database.conninfo, user=ROLE), "test")
        connection.execute(f"drop role {ROLE}")


@pytest.fixture(scope="module")
def http(application: Database) -> Iterator[httpx.Client]:
    with serving(application) as client:
        yield client


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that an error has the shape of all errors; return its body."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert {"error", "detail", "hint", "request_id"} <= set(body)
    assert body["error"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    return body


# Recommendations ----------------------------------------------------------------------------------------------


def test_generate_gives_the_rows_of_recommend(http: httpx.Client, shared: psycopg.Connection) -> None:
    rows = shared.execute("select item_id, score, reason, model_version from recommend('u1', 5)").fetchall()
    posts = [{"post_id": item, "score": score, "reason": reason} for item, score, reason, _ in rows]
    response = http.post(GENERATE, json={"user_id": "u1", "limit": 5, "exclude_post_ids": []})
    assert response.status_code == 200
    assert response.json() == {
        "user_id": "u1", "recommendations": posts, "count": 5, "model_version": "collaborative_filtering_v1",
    }  # fmt: skip
    without = http.post(GENERATE, json={"user_id": "u1", "limit": 4, "exclude_post_ids": [posts[0]["post_id"]]})
    assert without.json()["recommendations"] == posts[1:]


def test_the_limit_is_50_unless_given(http: httpx.Client, shared: psycopg.Connection) -> None:
    expected = column(shared.execute("select item_id from recommend('u1', 50)"))
    body = http.post(GENERATE, json={"user_id": "u1"}).json()
    assert [post["post_id"] for post in body["recommendations"]] == expected
    assert body["count"] == len(expected)


def test_an_unknown_user_gets_none_or_popular_posts_where_asked(http: httpx.Client) -> None:
    nobody = http.post(GENERATE, json={"user_id": "nobody"})
    assert nobody.status_code == 200
    assert nobody.json() == {"user_id": "nobody", "recommendations": [], "count": 0, "model_version": None}
    popular = http.post(GENERATE, json={"user_id": "nobody", "limit": 3, "fallback": "popular"}).json()
    assert [post["reason"] for post in popular["recommendations"]] == ["popular"] * 3


def test_ids_come_back_as_they_were_sent(http: httpx.Client) -> None:
    for user in ("Zoë 👩‍👩‍👧", "'; drop table x; --", '"{},<>"', " ", "i" * 1000, "é" * 1000):
        response = http.post(GENERATE, json={"user_id": user, "exclude_post_ids": [user]})
        assert response.status_code == 200
        assert response.json()["user_id"] == user


# Interactions -------------------------------------------------------------------------------------------------


def test_an_interaction_is_recorded_and_the_next_list_knows_it(http: httpx.Client, shared: psycopg.Connection) -> None:
    first = http.post(
        "/interactions",
        json={"user_id": "visitor", "post_id": "i1", "interaction_type": "like", "metadata": {"depth": 0.5}},
    )
    assert first.status_code == 201
    stored = "select user_id, item_id, kind, metadata from recdb.interaction where interaction_id = %s"
    assert shared.execute(stored, [first.json()["interaction_id"]]).fetchone() == (
        "visitor", "i1", "like", {"depth": 0.5},
    )  # fmt: skip
    posts = [post["post_id"] for post in http.post(GENERATE, json={"user_id": "visitor"}).json()["recommendations"]]
    assert posts and "i1" not in posts
    second = http.post("/interactions", json={"user_id": "visitor", "post_id": posts[0], "interaction_type": "view"})
    assert second.status_code == 201
    again = http.post(GENERATE, json={"user_id": "visitor"}).json()
    assert posts[0] not in [post["post_id"] for post in again["recommendations"]]


# Bad input ----------------------------------------------------------------------------------------------------

INTERACTION = {"user_id": "u1", "post_id": "i1", "interaction_type": "view"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (GENERATE, {}, "user_id"),
        (GENERATE, {"user_id": None}, "user_id"),
        (GENERATE, {"user_id": 7}, "user_id"),
        (GENERATE, {"user_id": ""}, "user_id"),
        (GENERATE, {"user_id": "a\0b"}, "user_id"),
        (GENERATE, {"user_id": "u" * 1001}, "user_id"),
        (GENERATE, {"user_id": "\ud800"}, "user_id"),
        (GENERATE, {"user_id": "u1", "limit": 0}, "limit"),
        (GENERATE, {"user_id": "u1", "limit": 101}, "limit"),
        (GENERATE, {"user_id": "u1", "limit": "5"}, "limit"),
        (GENERATE, {"user_id": "u1", "limit": True}, "limit"),
        (GENERATE, {"user_id": "u1", "limit": 10**400}, "limit"),
        (GENERATE, {"user_id": "u1", "exclude_post_ids": "i1"}, "exclude_post_ids"),
        (GENERATE, {"user_id": "u1", "exclude_post_ids": ["i1", None]}, "exclude_post_ids.1"),
        (GENERATE, {"user_id": "u1", "exclude_post_ids": ["a\0b"] * 10}, "and 5 more"),
        (GENERATE, {"user_id": "u1", "exclude_post_ids": ["i"] * 10_001}, "exclude_post_ids"),
        (GENERATE, {"user_id": "u1", "exclude_post_id": ["i1"]}, "exclude_post_id"),
        (GENERATE, {"user_id": "u1", "\ud800": 1}, "unicode"),
        (GENERATE, {"user_id": "u1", "fallback": "random"}, "fallback"),
        (GENERATE, [], "dictionary"),
        ("/interactions", INTERACTION | {"interaction_type": ""}, "interaction_type"),
        ("/interactions", INTERACTION | {"interaction_type": "k" * 101}, "interaction_type"),
        ("/interactions", INTERACTION | {"post_id": "\N{BATH}" * 1000}, "2600 bytes"),
        ("/interactions", INTERACTION | {"metadata": []}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": "\0"}}, "Unicode"),
        ("/interactions", INTERACTION | {"metadata": {"a": "\ud800"}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": float("nan")}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": "x" * 20_000}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": nested(40)}}, "metadata"),
        ("/interactions", INTERACTION | {"created_at": "2026-01-01"}, "created_at"),
    ],
)
def test_a_body_that_is_wrong_is_named_and_refused(http: httpx.Client, path: str, body: Any, said: str) -> None:
    response = http.post(path, content=json.dumps(body), headers=JSON)
    assert said in assert_error(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"user_id": "\xff"}',
        b"[" * 100_000,
        b'{"user_id": "u1", "limit": ' + b"1" * 5000 + b"}",
        b"user_id=u1",
        b"\x00",
        "{}".encode("utf-16"),
    ],
)
def test_a_body_that_is_no_json_is_refused(http: httpx.Client, content: bytes) -> None:
    for path in (GENERATE, "/interactions"):
        assert_error(http.post(path, content=content, headers=JSON), 422, "invalid_request")


def test_a_body_of_another_type_is_refused(http: httpx.Client) -> None:
    assert_error(http.post(GENERATE, data={"user_id": "u1"}), 422, "invalid_request")
    assert_error(http.post(GENERATE, content=b'{"user_id": "u1"}'), 422, "invalid_request")


def test_a_body_that_is_too_large_is_refused(http: httpx.Client) -> None:
    declared = json.dumps({"user_id": "u1", "exclude_post_ids": ["i" * 1000] * 1100})
    assert len(declared) > MAX_BODY
    assert_error(http.post(GENERATE, content=declared, headers=JSON), 413, "too_large")
    chunks = (b" " * 65_536 for _ in range(1 + MAX_BODY // 65_536))
    assert_error(http.post(GENERATE, content=chunks, headers=JSON), 413, "too_large")


def test_what_is_not_there_has_the_same_shape_of_error(http: httpx.Client) -> None:
    assert_error(http.get("/recommendations"), 404, "not_found")
    response = http.get(GENERATE)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_a_failure_of_recdb_itself_is_a_500_that_the_log_explains(
    database: Database, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    db.execute("""
        create or replace function recdb.track(
            user_id text, item_id text, kind text, created_at timestamptz default now(), metadata jsonb default null
        )
        returns bigint language plpgsql as $$ begin raise 'the disk is on fire'; end $$
        """)
    with serving(database) as client:
        body = assert_error(client.post("/interactions", json=INTERACTION), 500, "internal")
        assert client.post(GENERATE, json={"user_id": "u1"}).status_code == 200
    assert "disk" not in body["detail"]
    (logged,) = [entry for entry in caplog.records if entry.exc_info]
    assert "the disk is on fire" in str(logged.exc_info)
    assert vars(logged)["fields"] == {"request_id": body["request_id"]}


# OpenAPI ------------------------------------------------------------------------------------------------------


def test_every_operation_is_described_with_its_errors(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    operations = {(method, path): entry for path, entries in paths.items() for method, entry in entries.items()}
    assert set(operations) == {
        ("get", "/health"), ("get", "/live"), ("get", "/metrics"), ("post", GENERATE), ("post", "/interactions"),
    }  # fmt: skip
    for (method, path), operation in operations.items():
        assert operation["description"]
        codes = set(operation["responses"])
        if method == "post":
            assert {"413", "422", "500", "503"} < codes
            for code in codes - {"200", "201"}:
                content = operation["responses"][code]["content"]["application/json"]
                assert content["schema"]["$ref"].endswith("/Error")
                assert Error(**content["example"]).model_dump() == content["example"]
        assert ("503" in codes) == (path not in ("/live", "/metrics"))
    assert http.get("/docs").status_code == 200


def test_whatever_the_description_allows_or_forbids_is_never_a_5xx(http: httpx.Client, tmp_path: Path) -> None:
    """Schemathesis sends allowed and forbidden requests, the same on every run, and checks the answers."""
    program = Path(sys.executable).parent / "schemathesis"
    options = [
        "--seed=1",
        "--generation-database=none",
        "--max-examples=25",
        "--phases=examples,coverage,fuzzing",
        "--no-color",
    ]
    done = subprocess.run(
        [program, f"--config-file={FUZZING}", "run", f"{http.base_url}/openapi.json", *options],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    answered = {
        (sample.labels["route"], sample.labels["status"]) for sample in read_metrics(http, "recdb_http_requests")
    }
    assert {(GENERATE, "200"), (GENERATE, "422"), ("/interactions", "201"), ("/interactions", "422")} <= answered
    assert not [entry for entry in answered if entry[1].startswith("5")]


# Operation ----------------------------------------------------------------------------------------------------


def read_metrics(client: httpx.Client, family: str) -> list[Sample]:
    """Read the samples of one family from /metrics; [] if there are none."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return [sample for found in families if found.name == family for sample in found.samples
            if not sample.name.endswith("_created")]  # fmt: skip


def value(client: httpx.Client, family: str, **labels: str) -> float:
    """Read one number from /metrics; 0 if it is missing."""
    found = [sample.value for sample in read_metrics(client, family) if labels.items() <= sample.labels.items()]
    return found[0] if found else 0


def test_health_is_what_a_probe_expects(http: httpx.Client) -> None:
    response = http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "healthy", "service": "recdb"})
    response = http.get("/live")
    assert (response.status_code, response.json()) == (200, {"status": "alive", "service": "recdb"})


def test_every_answer_has_the_requests_id_or_one_made_for_it(http: httpx.Client) -> None:
    given = http.post(GENERATE, json={"user_id": "u1"}, headers={"X-Request-ID": "trace-1.2_3"})
    assert given.headers["x-request-id"] == "trace-1.2_3"
    made = {http.get("/health").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for wrong in ("", "a b", "x" * 129, '"},{"'):
        response = http.get("/nothing", headers={"X-Request-ID": wrong})
        assert assert_error(response, 404, "not_found")["request_id"] not in ("", wrong)


def test_metrics_count_requests_rows_and_answers(application: Database) -> None:
    with serving(application, max_connections=3) as client:
        for user, fallback in (("u1", "none"), ("nobody", "none"), ("nobody", "popular"), ("u1", "popular")):
            client.post(GENERATE, json={"user_id": user, "limit": 100, "fallback": fallback})
        client.post(GENERATE, json={})
        client.get("/no/such/thing")
        client.post("/interactions", json=INTERACTION | {"user_id": "counted"})
        assert value(client, "recdb_http_requests", route=GENERATE, status="200") == 4
        assert value(client, "recdb_http_requests", route=GENERATE, status="422") == 1
        assert value(client, "recdb_http_requests", route="unmatched", status="404") == 1
        counts = {sample.labels["kind"]: sample.value for sample in read_metrics(client, "recdb_answers")}
        assert counts == {"personal": 1, "empty": 1, "popular": 1, "filled": 1}
        assert value(client, "recdb_rows_returned", reason="popular") > 0
        assert value(client, "recdb_rows_returned", reason="collaborative_filtering") > 0
        assert value(client, "recdb_interactions_recorded") == 1
        buckets = {sample.labels.get("le"): sample.value
                   for sample in read_metrics(client, "recdb_http_request_seconds")
                   if sample.labels["route"] == GENERATE and sample.name.endswith("_bucket")}  # fmt: skip
        assert buckets["+Inf"] == 5
        assert value(client, "recdb_pool_max") == 3
        assert 1 <= value(client, "recdb_pool_connections") <= 3
        assert value(client, "recdb_ready") == 1
        assert 0 < value(client, "recdb_model_age_seconds", model_version="collaborative_filtering_v1") < 3600


def test_the_role_needs_no_more_than_reader_and_writer(application: Database, http: httpx.Client) -> None:
    assert http.post(GENERATE, json={"user_id": "u1"}).json()["count"] > 0
    with psycopg.connect(application.conninfo) as connection:
        assert connection.info.user == ROLE
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from recdb.interaction")


def test_a_role_without_grants_is_told_so(application: Database, shared: psycopg.Connection) -> None:
    shared.execute(f"revoke recdb_writer from {ROLE}")
    shared.commit()
    try:
        with serving(application) as client:
            assert client.get("/health").status_code == 200
            body = assert_error(client.post("/interactions", json=INTERACTION), 503, "unavailable")
            assert "permission denied" in body["detail"]
            assert "recdb_writer" in body["hint"]
    finally:
        shared.execute(f"grant recdb_writer to {ROLE}")
        shared.commit()


def test_without_recdb_the_service_starts_and_is_ready_once_it_is_there(
    empty_database: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "PROBE_KEPT", 0)
    database = empty_database()
    with serving(database) as client:
        body = assert_error(client.get("/health"), 503, "unavailable")
        assert (body["status"], body["service"]) == ("unhealthy", "recdb")
        assert "recdb init" in body["hint"]
        assert_error(client.post(GENERATE, json={"user_id": "u1"}), 503, "unavailable")
        assert client.get("/live").status_code == 200
        assert value(client, "recdb_ready") == 0
        migrate.upgrade(database)
        assert client.get("/health").status_code == 200
        assert client.post(GENERATE, json={"user_id": "u1"}).json()["count"] == 0


def test_a_database_that_goes_is_a_503_and_one_that_comes_back_is_used(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a stopped server, sessions end and new ones are refused."""
    monkeypatch.setattr(backend, "PROBE_KEPT", 0)
    monkeypatch.setattr(backend, "POOL_WAIT", 0.2)
    monkeypatch.setattr(backend, "MAX_WAITING", 5)
    with (
        psycopg.connect(server.conninfo("postgres"), autocommit=True) as administrator,
        serving(database) as client,
    ):
        assert client.post("/interactions", json=INTERACTION).status_code == 201
        name = str(conninfo_to_dict(database.conninfo)["dbname"])
        administrator.execute(f'alter database "{name}" with allow_connections false')
        try:
            administrator.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            for path, body in ((GENERATE, {"user_id": "u1"}), ("/interactions", INTERACTION)):
                response = client.post(path, json=body)
                assert "not currently accepting connections" in assert_error(response, 503, "unavailable")["detail"]
                assert int(response.headers["retry-after"]) > 0
            with ThreadPoolExecutor(10) as threads:
                answers = list(threads.map(lambda _: client.post("/interactions", json=INTERACTION), range(50)))
            assert {answer.status_code for answer in answers} == {503}
            assert client.get("/health").status_code == 503
            assert client.get("/live").status_code == 200
            assert value(client, "recdb_ready") == 0
        finally:
            administrator.execute(f'alter database "{name}" with allow_connections true')
        until(lambda: client.post("/interactions", json=INTERACTION).status_code == 201)
        assert client.get("/health").status_code == 200


def free_port() -> int:
    """Find a free port."""
    with closing(create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


def test_a_server_that_is_not_there_is_named(application: Database) -> None:
    with serving(Database(f"postgresql://127.0.0.1:{free_port()}/shop", "from RECDB_DATABASE_URL")) as client:
        body = assert_error(client.get("/health"), 503, "unavailable")
        assert "cannot connect to shop" in body["detail"] and "refused" in body["detail"]


@contextmanager
def held(database: Database) -> Iterator[psycopg.Connection]:
    """Make every new interaction wait, as a migration would, until this connection rolls back."""
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("lock table recdb.interaction in share mode")
        yield connection
        connection.rollback()


def test_an_answer_that_takes_too_long_is_given_up_in_the_database_too(
    database: Database, db: psycopg.Connection
) -> None:
    with serving(database, timeout=0.3) as client, held(database):
        response = client.post("/interactions", json=INTERACTION)
        assert "no answer within 0.3 s" in assert_error(response, 503, "unavailable")["detail"]
        assert response.headers["retry-after"]
        until(lambda: not waits_for_a_lock(db))
    assert column(db.execute("select count(*) from recdb.interaction")) == [0]


@pytest.mark.parametrize(("may_wait", "said"), [(1, "busy"), (0, "1 requests are being answered")])
def test_a_full_pool_is_a_503_and_no_reason_to_be_taken_out(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, may_wait: int, said: str
) -> None:
    monkeypatch.setattr(backend, "POOL_WAIT", 0.2)
    monkeypatch.setattr(backend, "MAX_WAITING", may_wait)
    with (
        serving(database, max_connections=1, timeout=60) as client,
        ThreadPoolExecutor() as threads,
        held(database) as holder,
    ):
        first = threads.submit(client.post, "/interactions", json=INTERACTION)
        until(lambda: waits_for_a_lock(db))
        response = client.post("/interactions", json=INTERACTION)
        assert said in assert_error(response, 503, "unavailable")["detail"]
        assert response.headers["retry-after"]
        assert client.get("/health").status_code == 200
        holder.rollback()
        assert first.result().status_code == 201


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_finish(database: Database, db: psycopg.Connection, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "recdb.cli", "serve", "--port=0", "--timeout=60", "--url", database.conninfo]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service,
        ThreadPoolExecutor() as threads,
        held(database) as holder,
    ):
        assert service.stdout is not None and service.stderr is not None
        lines = [json.loads(service.stdout.readline())]
        url = lines[0]["url"]
        answer = threads.submit(
            httpx.post, f"{url}/interactions", json=INTERACTION, headers={"X-Request-ID": "last"}, timeout=60
        )
        until(lambda: waits_for_a_lock(db))
        service.send_signal(stop)
        while lines[-1]["message"] != "Shutting down":
            lines.append(json.loads(service.stdout.readline()))
        holder.rollback()
        assert answer.result().status_code == 201
        lines += [json.loads(line) for line in service.stdout]
        assert service.wait() == (0 if stop == signal.SIGTERM else 130)
        assert "Traceback" not in service.stderr.read()
    requests = [line for line in lines if line["message"] == "request"]
    assert [(line["request_id"], line["route"], line["status"]) for line in requests] == [
        ("last", "/interactions", 201)
    ]
    assert {"time", "level", "milliseconds", "client"} < set(requests[0])
    assert INTERACTION["user_id"] not in json.dumps(requests)
    assert column(db.execute("select count(*) from recdb.interaction")) == [1]


@pytest.fixture
def pooled(application: Database, server: Server) -> Iterator[Database]:
    """The module's database behind a pgbouncer in transaction mode, with fewer connections than the service has."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    folder = server.folder.parent / "pgbouncer"
    folder.mkdir()
    (folder / "users").write_text(f'"{ROLE}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\npool_mode = transaction\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\ndefault_pool_size = 2\n"
        f"auth_type = trust\nauth_file = {folder / 'users'}\n"
    )
    owner = server.folder.stat()  # pgbouncer refuses to run as root
    command = [program, str(folder / "pgbouncer.ini")]
    database = make_conninfo(application.conninfo, user=ROLE, host="127.0.0.1", port=port)
    with subprocess.Popen(command, user=owner.st_uid, group=owner.st_gid, stderr=subprocess.DEVNULL) as running:
        try:
            yield Database(database, "test")
        finally:
            running.terminate()


def test_through_a_pgbouncer_in_transaction_mode(pooled: Database, http: httpx.Client) -> None:
    with serving(pooled, max_connections=6, timeout=60) as client, ThreadPoolExecutor(12) as threads:
        until(lambda: client.get("/health").status_code == 200)
        bodies = [{"user_id": f"u{number % 20}", "limit": 5} for number in range(60)]
        answers = list(threads.map(lambda body: client.post(GENERATE, json=body).json(), bodies))
        assert answers[:20] == [http.post(GENERATE, json=body).json() for body in bodies[:20]]
        assert all(answer["count"] == 5 for answer in answers)
        assert client.post("/interactions", json=INTERACTION | {"user_id": "pooled"}).status_code == 201


# The command --------------------------------------------------------------------------------------------------


def complaint(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a `recdb serve` that cannot start; return its standard error."""
    monkeypatch.setattr(sys, "argv", ["recdb", "serve", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_a_port_that_is_taken_is_named(
    application: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        said = complaint("--port", port, "--url", application.conninfo, monkeypatch=monkeypatch, capsys=capsys)
    assert f"error: cannot listen on 127.0.0.1 port {port}: Address already in use\n" in said
    assert "hint: pass another --host or --port" in said


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "recdb.service", None)
    monkeypatch.delattr(recdb, "service")
    said = complaint(monkeypatch=monkeypatch, capsys=capsys)
    assert said == "error: the HTTP service is not installed\nhint: run: pip install 'recdb-postgres[serve]'\n"
