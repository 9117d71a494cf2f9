"""The words and attributes of an item, as texts that can be counted: its content, where it has no embedding."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

LONG = 60
"""A value of more characters is a text: its words count, and not the whole of it."""

MOST_WORDS = 2000
"""Of an item's title and texts, the first so many words count."""

WORD = re.compile(r"[^\W_]{2,}")


def attribute_tokens(attributes: Any, owner: str | None = None) -> list[str]:
    """Return an item's attributes and owner as tokens such as `genres=comedy`, each once, in order of first occurrence.

    A list gives one token for each of its elements, an object within gives tokens such as `maker.country=fr`. A value
    longer than LONG is a text and gives none; NULL and empty values give none.
    """
    found = {f"{key}={value}": None for key, value in walk_values(attributes) if len(value) <= LONG}
    if owner is not None:
        found[f"owner={owner}"] = None
    return list(found)


def text_words(title: str | None, attributes: Any) -> list[str]:
    """Return the words of an item's title and of the long texts in its attributes, in lower case, with repeats."""
    found: list[str] = []
    for text in (title or "", *(value for _, value in walk_values(attributes) if len(value) > LONG)):
        found += WORD.findall(text.casefold())
        if len(found) >= MOST_WORDS:
            break
    return found[:MOST_WORDS]


def describe_item(title: str | None, attributes: Any, owner: str | None = None) -> str:
    """Return an item as one text, which a language model reads: `Toy Story. genres: comedy, drama; year: 1995`."""
    named: dict[str, list[str]] = {}
    for name, value in walk_values(attributes):
        named.setdefault(name, []).append(value)
    if owner is not None:
        named["owner"] = [owner]
    said = "; ".join(f"{name}: {', '.join(values)}" for name, values in named.items())
    return ". ".join(part for part in (title or "", said) if part)


def walk_values(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value in a JSON document with the names that lead to it, joined by dots."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from walk_values(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for part in value:
            yield from walk_values(part, path)
    elif isinstance(value, bool):
        yield path, str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        yield path, str(int(value))
    elif value is not None and str(value).strip():
        yield path, str(value).strip().casefold()
