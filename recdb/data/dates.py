"""Dates in files: whether one tells the day from the month."""

YEAR_FIRST = (
    r"(^|[^-0-9./])([0-9]{4,6}(-[0-9]{1,2}-|/[0-9]{1,2}/|[.][0-9]{1,2}[.])[0-9]|[0-9]{8}(?![0-9.])|[0-9]{14}(?![0-9]))"
)
MONTHS = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|"
    "dec(ember)?"
)
NAMED_MONTH = f"(?<![a-z])({MONTHS})(?![a-z])"


def unclear(name: str) -> str:
    """Return the SQL for the problem with a date such as 03/02/2024, which is another day in another country.

    PostgreSQL takes one of the days without a word. Clear is a date with its year of four digits first, or with the
    name of its month.
    """
    return (
        f"case when {name} <> '' and {name} !~ '{YEAR_FIRST}' and {name} !~* '{NAMED_MONTH}' then "
        f"format('{name} %L does not say which number is the day: write the year first, as in 2024-01-31, or the month "
        f"by its name', left({name}, 40)) end"
    )
