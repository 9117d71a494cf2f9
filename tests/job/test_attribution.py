"""To which impression an interaction counts: the last one before it, whatever part of the impressions is asked for."""

from typing import Any

import psycopg
import pytest
from support.refreshing import refresh

DAY = "2026-03-05"


@pytest.fixture(autouse=True)
def log(db: psycopg.Connection) -> None:
    """One item is shown on the page home, and later in the mail, where it is clicked; another one on home alone."""
    db.execute("update recdb.config set impression_retention = '10 years'")
    db.execute("insert into recdb.experiment (name, scenario, started_at) values ('colours', 'home', null)")
    db.execute("insert into recdb.experiment_variant (experiment, name) values ('colours', 'a'), ('colours', 'b')")
    db.execute("select recdb.start_experiment('colours')")
    db.execute("update recdb.experiment set started_at = '2026-03-01'")
    for user, page, place, hour in (
        ("u1", ["twice", "once"], "home", 10), ("u1", ["twice"], "mail", 12),
        ("u2", ["twice"], "mail", 9), ("u2", ["twice", "once"], "home", 11),
    ):  # fmt: skip
        db.execute(
            "select recdb.impressions(%s, %s::text[], %s, shown_at => %s::timestamptz)",
            [user, page, place, f"{DAY} {hour}:00+00"],
        )
    for user, item, hour in (("u1", "once", 11), ("u1", "twice", 13), ("u2", "twice", 13)):
        db.execute("select recdb.track(%s, %s, 'click', %s::timestamptz)", [user, item, f"{DAY} {hour}:00+00"])
    refresh(db)


def touched(db: psycopg.Connection, *bounds: str | None) -> dict[str, Any]:
    rows = db.execute(
        "select scenario, sum(touched) from recdb.measure_impressions(%s, %s) where kind = 'click' group by scenario",
        bounds,
    )
    return dict(rows.fetchall())


def test_a_part_of_the_time_has_the_figures_of_the_whole(db: psycopg.Connection) -> None:
    """Also where the interaction and the later impression come after the end of that part."""
    assert touched(db, None, None) == {"home": 2, "mail": 1}
    assert touched(db, f"{DAY} 00:00+00", f"{DAY} 11:30+00") == {"home": 2, "mail": 0}
    assert touched(db, f"{DAY} 10:30+00", f"{DAY} 11:30+00") == {"home": 1}
    assert touched(db, f"{DAY} 11:30+00", None) == {"mail": 1}


def test_a_click_on_another_page_does_not_count_for_an_experiment(db: psycopg.Connection) -> None:
    def clicks() -> int:
        rows = db.execute("select variant, touched from recdb.experiment_sums('colours') where kind = 'click'")
        return sum(row[1] for row in rows)

    assert clicks() == 2
    online = db.execute("select sum(touched) from recdb.online_metrics where experiment = 'colours' and kind = 'click'")
    assert online.fetchone() == (2,)
    shown = db.execute("select sum(impressions) from recdb.experiment_sums('colours') where kind is null").fetchone()
    assert shown == (4,)
    # The experiment stopped between the two pages of u1: the later one took the click all the same.
    db.execute("update recdb.experiment set stopped_at = %s::timestamptz", [f"{DAY} 11:30+00"])
    assert clicks() == 2
