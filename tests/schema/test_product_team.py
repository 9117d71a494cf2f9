"""A product team edits scenarios and rules with the rights that the documents name, and with no others."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

STEER = Path(__file__).parents[2] / "docs" / "steer.md"


def test_the_rights_that_the_page_names_are_enough(shared: psycopg.Connection) -> None:
    statements = re.findall(r"`(grant [^`]* to product_team)`", STEER.read_text(encoding="utf-8"))
    assert statements
    shared.execute("create role product_team")
    for statement in statements:
        shared.execute(statement)
    shared.execute("set local role product_team")
    shared.execute("insert into recdb.scenario (name, freshness) values ('mail', '1 day')")
    shared.execute(
        "insert into recdb.rule (scenario, condition, factor) values "
        "('mail', '{\"topic\": \"birds\"}', 2), ('mail', '\"$.price < 20\"', 0)"
    )
    shared.execute("update recdb.scenario set diversity = 0.2, name = 'letter' where name = 'mail'")
    shared.execute("update recdb.rule set note = 'birds' where factor > 1 and scenario = 'letter'")
    assert shared.execute("select scenario, factor from recdb.rule order by factor").fetchall() == [
        ("letter", 0),
        ("letter", 2),
    ]
    with pytest.raises(errors.CheckViolation), shared.transaction():
        shared.execute("update recdb.scenario set filter = '\"$.starts.datetime() < 1\"' where name = 'letter'")
    with pytest.raises(errors.ForeignKeyViolation), shared.transaction():
        shared.execute("update recdb.scenario set experiment = 'none' where name = 'letter'")
    for table in ("recdb.interaction", "recdb.impression", "recdb.config", "recdb.user_key"):
        with pytest.raises(errors.InsufficientPrivilege), shared.transaction():
            shared.execute(f"select from {table}")  # type: ignore[call-overload]
    shared.execute("delete from recdb.rule where factor = 0")
    shared.execute("delete from recdb.scenario where name = 'letter'")
    assert shared.execute("select count(*) from recdb.rule").fetchone() == (0,)
