"""The HTTP service: its answers to good and bad requests, and their description."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from support.data import column
from support.http import GENERATE, INTERACTION, assert_error, read_metrics
from support.serving import serving

from recdb.database import Database
from recdb.service.bodies import Error
from recdb.service.observe import MAX_BODY

FUZZING = Path(__file__).parent / "schemathesis.toml"

JSON = {"content-type": "application/json"}

IMPRESSIONS = "/impressions"
GUEST, SIMILAR, POPULAR, SEGMENT, TRENDING, EXPLAIN = (
    f"/recommendations/{name}" for name in ("guest", "similar", "popular", "segment", "trending", "explain")
)


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


def test_candidates_json_paths_and_scenarios(http: httpx.Client) -> None:
    everything = [post["post_id"] for post in http.post(GENERATE, json={"user_id": "u1"}).json()["recommendations"]]
    among = everything[2:9:3]
    for path, body in ((GENERATE, {"user_id": "u1"}), (GUEST, {"post_ids": ["i1"]})):
        whole = http.post(path, json=body).json()["recommendations"]
        found = http.post(path, json={**body, "among": among, "scenario": "default"}).json()["recommendations"]
        assert found == [post for post in whole if post["post_id"] in among]
        assert http.post(path, json={**body, "among": []}).json()["count"] == 0
        assert http.post(path, json={**body, "filter": "$.nothing == 1"}).json()["count"] == 0
        for wrong in ({"filter": "price < 1"}, {"scenario": "nowhere"}):
            refused = http.post(path, json={**body, **wrong})
            assert refused.status_code == 422
            assert refused.json()["detail"].startswith(("filter is not a JSON path", "no scenario is named"))


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


def rows_of(connection: psycopg.Connection, call: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"select * from {call}").fetchall()


def test_a_filter_and_a_fallback_choose_the_posts(http: httpx.Client, shared: psycopg.Connection) -> None:
    for fallback in ("none", "popular"):
        body = {"user_id": "u1", "filter": {"lang": "fi"}, "fallback": fallback}
        expected = rows_of(shared, f"""recommend('u1', 50, fallback => '{fallback}', filter => '{{"lang": "fi"}}')""")
        posts = http.post(GENERATE, json=body).json()["recommendations"]
        assert [(post["post_id"], post["score"], post["reason"]) for post in posts] == [row[:3] for row in expected]
        assert expected and {row[0] for row in expected} <= {"i7", "i8", "i9", "i10"}
    assert http.post(GENERATE, json={"user_id": "u1", "filter": {"lang": "sv"}}).json()["count"] == 0


def test_a_guest_gets_the_rows_of_recommend_for_items(http: httpx.Client, shared: psycopg.Connection) -> None:
    body = {"post_ids": ["i1", "i2"], "weights": [1, 0.5], "limit": 5, "exclude_post_ids": ["i3"]}
    call = "recdb.recommend_for_items(array['i1', 'i2'], 5, array['i3'], array[1, 0.5]::real[])"
    answer = http.post(GUEST, json=body)
    assert answer.status_code == 200
    posts = [(post["post_id"], post["score"], post["reason"]) for post in answer.json()["recommendations"]]
    assert posts == [row[:3] for row in rows_of(shared, call)] and len(posts) == answer.json()["count"] == 5
    assert answer.json()["model_version"] == "collaborative_filtering_v1"
    assert http.post(GUEST, json={"post_ids": []}).json() == {"recommendations": [], "count": 0, "model_version": None}
    filtered = http.post(GUEST, json={"post_ids": ["i1"], "filter": {"lang": "fi"}, "fallback": "popular"}).json()
    assert {post["post_id"] for post in filtered["recommendations"]} == {"i7", "i8", "i9", "i10"}


def test_similar_and_popular_posts_are_the_rows_of_their_functions(
    http: httpx.Client, shared: psycopg.Connection
) -> None:
    similar = http.post(SIMILAR, json={"post_id": "i1", "limit": 4}).json()
    assert [(post["post_id"], post["similarity"]) for post in similar["similar"]] == rows_of(
        shared, "recdb.similar_items('i1', 4)"
    )
    assert similar["post_id"] == "i1" and similar["count"] == 4
    assert http.post(SIMILAR, json={"post_id": "nothing"}).json()["similar"] == []
    popular = http.get(POPULAR, params={"limit": 4}).json()
    assert [(post["post_id"], post["score"]) for post in popular["popular"]] == rows_of(shared, "recdb.popular(4)")
    assert http.get(POPULAR).json()["count"] == len(rows_of(shared, "recdb.popular(50)"))
    for limit in ("0", "101", "many", ""):
        assert "limit" in assert_error(http.get(POPULAR, params={"limit": limit}), 422, "invalid_request")["detail"]


def test_popular_posts_of_a_kind_and_rising_posts_are_the_rows_of_their_functions(
    http: httpx.Client, shared: psycopg.Connection
) -> None:
    popular = http.post(SEGMENT, json={"limit": 4, "segment": {"country": "de"}}).json()["popular"]
    rows = rows_of(shared, 'recdb.popular(4, segment => \'{"country": "de"}\')')
    assert [(post["post_id"], post["score"]) for post in popular] == rows
    assert http.post(SEGMENT, json={"filter": {"lang": "none"}}).json() == {"popular": [], "count": 0}
    rising = http.post(TRENDING, json={"limit": 4, "window_hours": 9600}).json()
    assert [post["post_id"] for post in rising["trending"]] == [
        row[0] for row in rows_of(shared, "recdb.trending(4, '400 days')")
    ]
    assert rising["count"] == 4 and rising["trending"][0]["score"] == 1
    for body in ({"window_hours": 0}, {"window_hours": 9601}, {"limit": 101}, {"filter": []}):
        assert_error(http.post(TRENDING, json=body), 422, "invalid_request")
    assert_error(http.post(SEGMENT, json={"segment": ["de"]}), 422, "invalid_request")


def test_an_explanation_adds_up_to_the_score(http: httpx.Client, shared: psycopg.Connection) -> None:
    item, score = rows_of(shared, "recommend('u1', 3)")[1][:2]
    answer = http.post(EXPLAIN, json={"user_id": "u1", "post_id": item}).json()
    reasons = [(part["source"], part["because_post_id"], part["contribution"]) for part in answer["reasons"]]
    assert reasons == rows_of(shared, f"recdb.explain('u1', '{item}')") and answer["count"] == len(reasons) > 1
    assert answer["score"] == pytest.approx(score)
    assert http.post(EXPLAIN, json={"user_id": "nobody", "post_id": item}).json()["reasons"] == []


# Interactions -------------------------------------------------------------------------------------------------


def test_an_interaction_is_recorded_and_the_next_list_knows_it(http: httpx.Client, shared: psycopg.Connection) -> None:
    first = http.post(
        "/interactions",
        json={
            "user_id": "visitor",
            "post_id": "i1",
            "interaction_type": "like",
            "metadata": {"depth": 0.5},
            "value": 2,
        },
    )
    assert first.status_code == 201
    stored = "select user_id, item_id, kind, metadata, value from recdb.interaction where interaction_id = %s"
    assert shared.execute(stored, [first.json()["interaction_id"]]).fetchone() == (
        "visitor", "i1", "like", {"depth": 0.5}, 2,
    )  # fmt: skip
    posts = [post["post_id"] for post in http.post(GENERATE, json={"user_id": "visitor"}).json()["recommendations"]]
    assert posts and "i1" not in posts
    second = http.post("/interactions", json={"user_id": "visitor", "post_id": posts[0], "interaction_type": "view"})
    assert second.status_code == 201
    again = http.post(GENERATE, json={"user_id": "visitor"}).json()
    assert posts[0] not in [post["post_id"] for post in again["recommendations"]]


def test_a_page_of_posts_is_recorded_as_shown(http: httpx.Client, shared: psycopg.Connection) -> None:
    body = {"user_id": 77, "post_ids": ["i1", 5], "scenario": "home", "places": [3, 4.0], "propensities": [0.5, None]}
    answer = http.post(IMPRESSIONS, json=body)
    assert (answer.status_code, answer.json()) == (201, {"recorded": 2})
    seen = "select item_id, scenario, place, propensity from recdb.impression_new where user_id = '77' order by place"
    assert shared.execute(seen).fetchall() == [("i1", "home", 3, 0.5), ("5", "home", 4, None)]
    assert http.post(IMPRESSIONS, json={"user_id": "u1", "post_ids": []}).json() == {"recorded": 0}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_an_integer_is_an_id_as_in_sql(http: httpx.Client, shared: psycopg.Connection) -> None:
    for number, text in ((5, "5"), (-7, "-7"), (42.0, "42"), (2**63, str(2**63)), (10**999, str(10**999))):
        body = {"user_id": number, "limit": 2, "exclude_post_ids": [number, "i1"], "fallback": "popular"}
        assert http.post(GENERATE, json=body).json()["user_id"] == text
        assert http.post(EXPLAIN, json={"user_id": number, "post_id": number}).json()["post_id"] == text
        assert http.post(SIMILAR, json={"post_id": number}).json()["post_id"] == text
        assert http.post(GUEST, json={"post_ids": ["i1", number], "weights": [1, 0.5]}).json()["count"] > 0
        recorded = http.post("/interactions", json=INTERACTION | {"user_id": number, "post_id": number})
        assert recorded.status_code == 201
        found = shared.execute(
            "select user_id, item_id from recdb.interaction where interaction_id = %s",
            [recorded.json()["interaction_id"]],
        ).fetchall()
        assert found == [(text, text)]
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    fields = (
        schemas["SimilarRequest"]["properties"]["post_id"],
        schemas["GuestRequest"]["properties"]["post_ids"]["items"],
    )
    for field in fields:
        assert [choice["type"] for choice in field["anyOf"]] == ["string", "integer"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (GENERATE, {}, "user_id"),
        (GENERATE, {"user_id": None}, "user_id"),
        (GENERATE, {"user_id": 7.5}, "user_id"),
        (GENERATE, {"user_id": True}, "user_id"),
        (GENERATE, {"user_id": 1e300}, "user_id"),
        (GENERATE, {"user_id": 10**1000}, "user_id"),
        (GENERATE, {"user_id": [7]}, "user_id"),
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
        (GENERATE, {"user_id": "u1", "filter": "lang"}, "filter"),
        (GENERATE, {"user_id": "u1", "filter": {"lang": float("inf")}}, "filter"),
        (GENERATE, {"user_id": "u1", "filter": {"a": nested(40)}}, "filter"),
        (GENERATE, {"user_id": "u1", "filter": {"a": "x" * 20_000}}, "filter"),
        (GUEST, {}, "post_ids"),
        (GUEST, {"post_ids": "i1"}, "post_ids"),
        (GUEST, {"post_ids": [1.5]}, "post_ids.0"),
        (GUEST, {"post_ids": [1, False]}, "post_ids.1"),
        (GUEST, {"post_ids": ["i1"] * 1001}, "post_ids"),
        (GUEST, {"post_ids": ["i1"], "weights": []}, "weights has 0 numbers for 1 post_ids"),
        (GUEST, {"post_ids": ["i1"], "weights": [float("nan")]}, "weights"),
        (GUEST, {"post_ids": ["i1"], "weights": ["1"]}, "weights"),
        (GUEST, {"post_ids": ["i1"], "limit": 101}, "limit"),
        (GUEST, {"post_ids": ["i1"], "user_id": "u1"}, "user_id"),
        (SIMILAR, {"post_id": ""}, "post_id"),
        (SIMILAR, {"post_id": "i1", "limit": 0}, "limit"),
        (EXPLAIN, {"user_id": "u1"}, "post_id"),
        (EXPLAIN, {"user_id": "u1", "post_id": None}, "post_id"),
        ("/interactions", INTERACTION | {"interaction_type": ""}, "interaction_type"),
        ("/interactions", INTERACTION | {"interaction_type": "k" * 101}, "interaction_type"),
        ("/interactions", INTERACTION | {"post_id": "\N{BATH}" * 1000}, "2600 bytes"),
        ("/interactions", INTERACTION | {"metadata": []}, "metadata"),
        ("/interactions", INTERACTION | {"value": 2e6}, "value"),
        ("/interactions", INTERACTION | {"value": 1e-10}, "value"),
        ("/interactions", INTERACTION | {"value": float("inf")}, "value"),
        ("/interactions", INTERACTION | {"value": "3"}, "value"),
        ("/interactions", INTERACTION | {"metadata": {"a": "\0"}}, "Unicode"),
        ("/interactions", INTERACTION | {"metadata": {"a": "\ud800"}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": float("nan")}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": "x" * 20_000}}, "metadata"),
        ("/interactions", INTERACTION | {"metadata": {"a": nested(40)}}, "metadata"),
        ("/interactions", INTERACTION | {"created_at": "2026-01-01"}, "created_at"),
        (IMPRESSIONS, {"user_id": "u1"}, "post_ids"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": "i1"}, "post_ids"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"] * 1001}, "post_ids"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["\N{BATH}" * 1000]}, "2600 bytes"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"], "scenario": ""}, "scenario"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"], "places": [0]}, "places"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"], "places": [1, 2]}, "places has 2 numbers"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"], "propensities": [0]}, "propensities"),
        (IMPRESSIONS, {"user_id": "u1", "post_ids": ["i1"], "shown_at": "2026-01-01"}, "shown_at"),
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
            user_id text, item_id text, kind text, created_at timestamptz default now(), metadata jsonb default null,
            value double precision default null
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
        ("get", "/health"), ("get", "/live"), ("get", "/metrics"), ("post", GENERATE), ("post", GUEST),
        ("post", SIMILAR), ("get", POPULAR), ("post", SEGMENT), ("post", TRENDING), ("post", EXPLAIN),
        ("post", "/interactions"), ("post", IMPRESSIONS),
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
    assert {
        (path, code) for path in (GENERATE, GUEST, SIMILAR, POPULAR, EXPLAIN) for code in ("200", "422")
    } <= answered
    assert {("/interactions", "201"), ("/interactions", "422")} <= answered
    assert not [entry for entry in answered if entry[1].startswith("5")]
