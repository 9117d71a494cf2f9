"""What names no standby, and is no lag: the clients and `recdb serve` say so before they connect."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from recdb.cli import main
from recdb.client import AsyncRecommender, Recommender
from recdb.errors import InvalidInput

URL = "postgresql://nobody@127.0.0.1:9/nowhere"
Client = Callable[..., Any]


@pytest.fixture(params=[Recommender, AsyncRecommender])
def client(request: pytest.FixtureRequest) -> Client:
    made: Client = request.param
    return made


@pytest.mark.parametrize("given", [5, True, [URL], b"x"], ids=repr)
def test_what_is_no_url_is_refused_as_read_url(client: Client, given: object) -> None:
    with pytest.raises(InvalidInput, match=r"read_url is of type \w+, and must be a URL") as raised:
        client(URL, read_url=given)
    assert raised.value.hint


@pytest.mark.parametrize(
    "given",
    ["60s", None, timedelta(seconds=60), 1e300, float("nan"), 0, -1, True, float("-inf"), 10**400],
    ids=lambda given: f"{given!r:.12}",
)
def test_what_is_no_time_is_refused_as_max_lag(client: Client, given: object) -> None:
    for others in ({"read_url": URL}, {}):
        with pytest.raises(InvalidInput, match=r"max_lag is .*, and must be a number of seconds above 0") as raised:
            client(URL, max_lag=given, **others)
        assert raised.value.hint


def test_times_of_any_kind_of_number_are_taken(client: Client) -> None:
    for given in (1, 0.5, 1e9, float("inf")):
        assert client(URL, read_url=URL, max_lag=given).reads() == {"standby": 0, "primary": 0}


def test_a_blank_names_no_standby(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client(URL, read_url="  ").reads() == {}
    monkeypatch.setenv("RECDB_DATABASE_URL", URL)
    monkeypatch.setenv("RECDB_READ_URL", " \t")
    assert client().reads() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--read-url", ""], "the URL given by --read-url is empty"),
        (["--read-url", "  "], "the URL given by --read-url is empty"),
        (["--read-url", URL, "--max-lag", "0s"], "--max-lag is 0s, and must be more than 0"),
        (["--max-lag", "-1s"], "--max-lag is -1s, and must be more than 0"),
        (["--max-lag", "60"], "'60' is not an age or duration"),
        (["--max-lag", "9999999w"], "max_lag is .*, and must be a number of seconds above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_service_does_not_start_with_such_options(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["recdb", "serve", "--url", URL, "--port", "0", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr().err
    assert ended.value.code == 1 and "Traceback" not in said and "hint: " in said
    assert re.search(message, said)
