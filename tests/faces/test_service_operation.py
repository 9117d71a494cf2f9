"""The HTTP service in operation: probes, metrics, grants, and a database that is down, busy or behind pgbouncer."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from socket import create_server

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.data import column
from support.http import GENERATE, INTERACTION, ROLE, assert_error, read_metrics
from support.pooler import free_port, run_pgbouncer
from support.servers import Server
from support.serving import serving
from support.waiting import until, waits_for_a_lock

import recdb
from recdb import migrate
from recdb.cli import main
from recdb.database import Database
from recdb.service import backend


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
    with run_pgbouncer(server, application, role=ROLE) as behind:
        yield behind


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
