"""Bad texts are told from good ones as PostgreSQL 16's pg_input_is_valid() does, on every server, without an error."""

from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.servers import since

TEXTS = [
    "", " ", "{}", "{a,b}", "{ a , b }", '{"a b","c\\"d"}', "{a\\}", '{a"b}', '{"a""b"}', "{a,}", "{,a}", "{,}",
    "{a", "a}", "{a}b", "{{a},{b}}", "{{a},b}", '{NULL,null,"null"}', "[0:1]={a,b}", "[1:2]={a}", "[1:1:1]={a}",
    "{a b}", "{a,\nb}", "{é,ł}", '{"\\\\"}', '{"\\"}', "[]", "[1,2]", '["a","b"]', '["a\\u0000"]', '["\\ud800"]',
    "[1e999999]", "[1,]", "[nul]", "[null]", '["a", 1.50]', "[[1]]", '{"a":1}', "nan", "t", "yes", "maybe",
    "2024-01-31", "2024-02-30", "infinity", "now", "294277-01-01", "4714-01-01 BC", "1e3", "0", "-0", "00", "1",
    "-1", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9" * 200, "1 ",
    " 1", "1\n", "+1", "0x1", "1_0", "\u0661", "5e0",
]  # fmt: skip
ANY = st.text(st.sampled_from('{}[]",\\ab1 0:=-\n.tenul'), max_size=12) | st.text(max_size=8)


def texts(function: Any) -> Any:
    """Run a test with many texts, and with each of TEXTS."""
    return settings(max_examples=300, deadline=None)(given(st.sampled_from(TEXTS) | ANY)(function))


@pytest.fixture(scope="module")
def connection(module_database: Any) -> Any:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("kind", ["text[]", "jsonb", "timestamptz", "boolean", "double precision", "uuid"])
def test_a_text_is_a_value_of_a_type_or_not(connection: psycopg.Connection, kind: str) -> None:
    since(16, connection)

    @texts
    def check(text: str) -> None:
        if "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text):
            query = "select recdb.is_input(%(text)s, %(kind)s), pg_input_is_valid(%(text)s, %(kind)s)"
            found, expected = connection.execute(query, {"text": text, "kind": kind}).fetchone() or (None, None)
            assert found == expected, text

    check()


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_an_id_is_the_number_that_postgresql_writes_or_null(connection: psycopg.Connection, kind: str) -> None:
    """For every type of numbers the widest one is used: a column may become wider."""
    since(16, connection)
    row = connection.execute("select recdb.as_id('t.id', %s::regtype)", [kind]).fetchone()
    assert row is not None
    query = (
        f"select t.id, {row[0]}::text, case when pg_input_is_valid(t.id, 'bigint') and t.id ~ '^(0|-?[1-9][0-9]*)$' "
        "then t.id end from unnest(%s::text[]) t(id)"
    )
    drawn = [str(sign * (2**bits + more)) for bits in range(70) for more in (-1, 0, 1) for sign in (-1, 1)]
    rows = connection.execute(query, [TEXTS + drawn]).fetchall()
    assert len(rows) == len(TEXTS + drawn)
    assert [row for row in rows if row[1] != row[2]] == []
    for text in TEXTS:  # as a constant, which PostgreSQL computes while it plans
        literal = psycopg.sql.Literal(text).as_string(connection)
        constant = connection.execute(
            "select recdb.as_id(%s || '::text', %s::regtype)", [literal, kind]
        ).fetchone() or ("",)
        assert (
            connection.execute(f"select ({constant[0]})::text").fetchall()
            == [(expected,) for given_, _, expected in rows if given_ == text][:1]
        )


def test_a_list_of_ids_in_any_spelling_is_read_or_refused(connection: psycopg.Connection) -> None:
    """The same function with pg_input_is_valid(), and without its quick way, gives the same arrays and errors."""
    since(16, connection)
    definition, *_ = connection.execute("select pg_get_functiondef('recdb.parse_exclude'::regproc)").fetchone() or ("",)
    head, _, rest = definition.partition("    elsif list ~ E'")
    slow = head + "    elsif" + rest.partition("    elsif")[2]
    plain = slow.replace("recdb.is_input", "pg_input_is_valid").replace("recdb.parse_exclude", "pg_temp.plain")
    assert plain != slow != definition
    connection.execute(plain)

    def parse(name: str, text: str) -> Any:
        try:
            return connection.execute(f"select {name}(%s)", [text]).fetchone()
        except psycopg.errors.InvalidTextRepresentation as error:
            return error.diag.message_primary, error.diag.message_hint

    @texts
    def check(text: str) -> None:
        if "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text):
            for setting in ("on", "off"):
                connection.execute(f"set standard_conforming_strings = {setting}")
                found = parse("recdb.parse_exclude", text)
                connection.execute("set standard_conforming_strings = on")
                assert found == parse("pg_temp.plain", text), text

    check()
