"""The lists of all users where a scenario steers them: by the function of recommend_batch(), some users at a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import psycopg

from recdb.errors import InvalidInput, RecdbError
from recdb.progress import Report

HEADER = "user_id,rank,item_id,score,reason,model_version\n"
TOGETHER = 200
"""So many users are asked for in one statement."""


@dataclass(frozen=True)
class Written:
    """The counts of a file of lists."""

    users: int
    """The number of users that have a list."""
    rows: int
    model: str
    seconds: float


def acts(connection: psycopg.Connection, scenario: str | None) -> bool:
    """Return whether a scenario steers lists: its row, a rule or an experiment. Raises InvalidInput for no row."""
    row = connection.execute(
        "select s.acts or s.fallback = 'popular' or exists ("
        "select from recdb.experiment e where coalesce(e.name = s.experiment, e.scenario = s.name) "
        "and e.started_at is not null and e.stopped_at is null) or exists ("
        "select from recdb.rule r where r.scenario = s.name "
        "and coalesce(r.valid_from <= now(), true) and coalesce(r.valid_to > now(), true)) "
        "from recdb.scenario s where s.name = coalesce(%s, 'default')",
        [scenario],
    ).fetchone()
    connection.rollback()
    if row is None and scenario is not None:
        raise InvalidInput(f'no scenario is named "{scenario}"', "the scenarios: select name from recdb.scenario")
    return bool(row and row[0])


def quote(texts: Sequence[str]) -> list[str]:
    """Quote the texts that need quotes in CSV."""
    return ['"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n\r') else text for text in texts]


def write_steered(
    connection: psycopg.Connection, file: BinaryIO, k: int, scenario: str | None, report: Report
) -> Written:
    """Write the lists of all users, all of one snapshot. Raises RecdbError if no version is active."""
    began = time.monotonic()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    file.write(HEADER.encode())
    with connection.transaction():
        label = connection.execute("select label from recdb.serving(null)").fetchone()
        if label is None:
            raise RecdbError("no model has been trained yet", "run: recdb refresh")
        users = [user for (user,) in connection.execute("select user_id from recdb.user_key order by user_key")]
        lists = rows = 0
        for first in range(0, len(users), TOGETHER):
            found = connection.execute(
                "select u.user_id, row_number() over (partition by u.place order by r.score desc, r.item_id), "
                "r.item_id, r.score, r.reason, r.model_version "
                "from unnest(%s::text[]) with ordinality u(user_id, place) cross join lateral "
                "recdb.list_for_user(u.user_id, %s::bigint, '{}', null, null, null, null, %s::text, null) r "
                "order by u.place, 2",
                [users[first : first + TOGETHER], k, scenario],
            ).fetchall()
            lines = [
                ",".join([*quote([user]), str(rank), *quote([item]), str(score), reason, *quote([version])]) + "\n"
                for user, rank, item, score, reason, version in found
            ]
            file.write("".join(lines).encode())
            lists += sum(1 for row in found if row[1] == 1)
            rows += len(found)
            report(f"lists, {min(first + TOGETHER, len(users)):,} of {len(users):,} users")
    return Written(lists, rows, str(label[0]), time.monotonic() - began)
