"""The guard: each training measures itself; a version that ranks clearly worse does not replace the active one."""

import json
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from support.data import column, recommend, record, tastes
from typer.testing import CliRunner

from recdb import job
from recdb.arrays.settings import read_settings
from recdb.cli import app, main
from recdb.database import Database
from recdb.errors import Rejected
from recdb.job.publish import publish
from recdb.job.train import train
from recdb.learn import Params
from recdb.progress import silent

USERS = 400


def shuffled(rows: list[list[str]]) -> list[list[str]]:
    """A disaster: the items of all interactions, dealt out again among the users."""
    items = np.random.default_rng(1).permutation([item for _, item, _ in rows])
    return [[user, str(item), kind] for (user, _, kind), item in zip(rows, items, strict=True)]


def replace_all(db: psycopg.Connection, rows: list[list[str]]) -> None:
    db.execute("truncate recdb.interaction")
    record(db, rows)


def states(db: psycopg.Connection) -> dict[str, str]:
    """The label of each version, and its state: active, ready or retired."""
    rows = db.execute(
        "select label, case when active then 'active' else state end from recdb.models order by created_at"
    )
    return dict(rows.fetchall())


def learn(database: Database) -> str:
    """Train with the job; return the label of the version that became active."""
    label = job.run(database, full=True).model
    assert label is not None
    return label


def reject(database: Database) -> Rejected:
    """Train with the job a version that must be rejected."""
    with pytest.raises(Rejected) as raised:
        job.run(database, full=True)
    return raised.value


@pytest.fixture
def served(database: Database, db: psycopg.Connection) -> str:
    """The label of an active version that learned good data."""
    record(db, tastes(USERS))
    return learn(database)


def test_every_training_stores_what_it_reaches_on_a_validation_part(db: psycopg.Connection, served: str) -> None:
    figure = column(db.execute("select metrics -> 'validation' from recdb.models"))[0]

    assert set(figure) == {"recall@20", "ndcg@20", "interval", "users"}
    assert 30 <= figure["users"] <= USERS
    low, high = figure["interval"]
    assert 0 < low < figure["ndcg@20"] < high < 1
    assert 0 < figure["recall@20"] <= 1


def test_shuffled_interactions_are_caught_and_the_old_version_serves_on(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    replace_all(db, shuffled(tastes(USERS)))

    rejected = reject(database)

    assert states(db) == {served: "active", rejected.label: "ready"}
    assert {row[3] for row in recommend(db, "u1")} == {served}
    old, new = column(db.execute("select metrics -> 'validation' -> 'ndcg@20' from recdb.models order by created_at"))
    assert new < old
    line = str(rejected)
    assert "\n" not in line
    assert line.startswith(f"{rejected.label} is clearly worse than {served}, which keeps serving")
    assert f"{old:.4f}" in line and f"{new:.4f}" in line
    assert rejected.hint is not None
    assert f"recdb activate {rejected.label}" in rejected.hint and "--force" in rejected.hint
    logged = db.execute("select kind, model, error from recdb.refresh_log order by run_id desc limit 1").fetchone()
    assert logged == ("train", rejected.label, line)


def test_a_rejection_names_who_holds_more_than_a_fair_share(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    replace_all(db, shuffled(tastes(USERS)))
    record(db, [["crawler", f"i{n % 60}", "view"] for n in range(2000)])

    rejected = reject(database)

    assert "'crawler' holds 29% of all interactions (2,000)" in str(rejected)
    assert "insert into recdb.ignored_user (user_id) values ('crawler');" in (rejected.hint or "")
    assert "--force" in (rejected.hint or "")


@pytest.mark.parametrize(
    "mistake",
    [
        "update recdb.interaction_kind set weight = -weight",
        "update recdb.interaction set item_id = 'i' || substr(md5(interaction_id::text), 1, 2)",
    ],
    ids=["weights turned round", "ids of items garbled"],
)
def test_other_disasters_are_caught_too(database: Database, db: psycopg.Connection, served: str, mistake: str) -> None:
    db.execute(mistake)

    reject(database)

    assert states(db)[served] == "active"


def test_a_mass_deletion_stops_before_a_version_is_trained(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    db.execute("delete from recdb.interaction where user_id <> 'u1'")

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="nothing was changed"):
        job.run(database, full=True)

    assert states(db) == {served: "active"}


def test_force_lets_any_version_serve(database: Database, db: psycopg.Connection, served: str) -> None:
    replace_all(db, shuffled(tastes(USERS)))

    outcome = job.run(database, full=True, force=True)

    assert outcome.model is not None and states(db) == {served: "ready", outcome.model: "active"}
    assert {row[3] for row in recommend(db, "u1")} == {outcome.model}
    assert column(db.execute("select error from recdb.refresh_log where kind = 'train'")) == [None, None]


def test_a_rejected_version_serves_by_its_label_and_after_activation(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    replace_all(db, shuffled(tastes(USERS)))
    rejected = reject(database)

    by_label, by_default = recommend(db, "u1", model=rejected.label), recommend(db, "u1")
    assert {row[3] for row in by_label} == {rejected.label}
    assert {row[3] for row in by_default} == {served}
    assert [row[:2] for row in by_label] != [row[:2] for row in by_default]

    db.execute("select recdb.activate(%s)", [rejected.label])
    assert recommend(db, "u1") == by_label
    assert recommend(db, "u1", model=served)[0][3] == served


def test_training_again_on_a_little_more_is_never_rejected(database: Database, db: psycopg.Connection) -> None:
    rows = tastes(USERS)
    order = np.random.default_rng(2).permutation(len(rows))
    start = len(rows) * 7 // 10
    record(db, [rows[place] for place in order[:start]])
    learn(database)

    for part in np.array_split(order[start:], 4):
        record(db, [rows[place] for place in part])
        learn(database)

    assert list(states(db).values()) == ["retired"] * 3 + ["ready", "active"]


def test_training_again_on_the_same_reaches_the_same_figure(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(USERS))
    learn(database), learn(database)

    first, second = column(db.execute("select metrics -> 'validation' from recdb.models"))

    assert first == second


def test_a_version_without_a_figure_is_no_reference(database: Database, db: psycopg.Connection, served: str) -> None:
    db.execute("update recdb.model set metrics = metrics - 'validation'")
    replace_all(db, shuffled(tastes(USERS)))

    label = learn(database)

    assert states(db) == {served: "ready", label: "active"}


def test_a_figure_of_a_few_users_rejects_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(20))
    learn(database)
    replace_all(db, shuffled(tastes(20)))

    label = learn(database)

    assert states(db)[label] == "active"


def test_too_little_to_measure_on_trains_without_a_figure(database: Database, db: psycopg.Connection) -> None:
    record(db, [(f"u{user}", f"i{user % 3}", "like") for user in range(50)])

    label = learn(database)

    assert states(db) == {label: "active"}
    assert column(db.execute("select metrics ? 'validation' from recdb.models")) == [False]


def test_what_was_rejected_last_is_kept_and_the_active_version_never_goes(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes(USERS))
    before, served = learn(database), learn(database)
    replace_all(db, shuffled(tastes(USERS)))

    first = reject(database).label
    assert states(db) == {before: "retired", served: "active", first: "ready"}
    job.run(database)
    assert states(db)[first] == "ready"
    second = reject(database).label

    assert states(db) == {before: "retired", served: "active", first: "retired", second: "ready"}
    assert recommend(db, "u1") and recommend(db, "u1", model=second)


def test_where_one_version_is_kept_a_rejected_one_goes(database: Database, db: psycopg.Connection, served: str) -> None:
    db.execute("update recdb.config set kept_models = 1")
    replace_all(db, shuffled(tastes(USERS)))

    rejected = reject(database)

    assert states(db) == {served: "active", rejected.label: "retired"}
    assert rejected.hint == "to activate it all the same: recdb refresh --full --force"


def test_a_rejected_training_is_not_repeated_before_its_time(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    db.execute("update recdb.model set created_at = now() - interval '2 days'")
    replace_all(db, shuffled(tastes(USERS)))
    with pytest.raises(Rejected):
        job.run(database, if_stale=timedelta(days=1))

    again = job.run(database, if_stale=timedelta(days=1))

    assert again.refreshed and again.model is None


def test_a_version_can_be_trained_without_becoming_active(
    database: Database, db: psycopg.Connection, served: str
) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        version = train(connection, Params(blend=1.0), read_settings(connection), silent)
        rejected = publish(connection, version, None, 0.1, "never")

    assert (version.label, rejected) == ("collaborative_filtering_v2", None)
    assert states(db) == {served: "active", version.label: "ready"}
    assert {row[3] for row in recommend(db, "u1", model=version.label)} == {version.label}


def test_the_command_says_why_and_exits_with_1(
    database: Database,
    db: psycopg.Connection,
    served: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace_all(db, shuffled(tastes(USERS)))
    monkeypatch.setattr("sys.argv", ["recdb", "refresh", "--full", "--url", database.conninfo])

    with pytest.raises(SystemExit) as stop:
        main()

    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert f"error: collaborative_filtering_v2 is clearly worse than {served}" in said
    assert "hint: to activate it all the same: recdb activate collaborative_filtering_v2" in said

    forced = CliRunner().invoke(app, ["refresh", "--full", "--force", "--url", database.conninfo])
    assert forced.exit_code == 0 and "activated collaborative_filtering_v3" in forced.output


def test_the_list_of_models_shows_their_figures(database: Database, db: psycopg.Connection, served: str) -> None:
    figure = column(db.execute("select metrics -> 'validation' -> 'ndcg@20' from recdb.models"))[0]

    shown = CliRunner().invoke(app, ["models", "--url", database.conninfo]).output
    listed = CliRunner().invoke(app, ["models", "--json", "--url", database.conninfo]).stdout

    assert "ndcg@20" in shown and f"{figure:.4f}" in shown and "active" in shown
    assert json.loads(listed)[0]["metrics"]["validation"]["ndcg@20"] == figure
    assert json.loads(listed)[0]["active"] is True
