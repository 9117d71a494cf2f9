"""The hints in the name of a kind: whether it sounds like a dislike, or is a number of stars."""

import re
from collections.abc import Sequence

LOW = re.compile(
    "abus(e|ed|ive)|ban(ned)?|bad|block(ed)?|bounced?|cancell?(ed)?|chargeback|churn(ed)?|complain(t|ed)?|declined?|"
    "deleted?|demoted?|dismiss(ed)?|down(rated?|voted?)?|flag(ged)?|hated?|hidden|hide|ignored?|irrelevant|leave|left|"
    "muted?|negative|nope|not|offensive|out|pass(ed)?|poor|quit|refund(ed)?|reject(ed)?|removed?|report(ed)?|"
    "return(ed)?|skip(ped)?|snoozed?|spam|thumbsdown|uninstall(ed)?|worst|wrong"
)
OPPOSITE = re.compile(
    r"(un|dis|de|down|non)-?_?(lik|follow|subscri|favou?r|fav|sav|bookmark|watch|pin|star|vot|friend|install|match|heart|"
    r"recommend|interest|appro|lov|join|wish|list)"
)
STARS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[-_ ]?\s*(?:stars?|★)?\s*", re.IGNORECASE)
NAMED_STARS = re.compile(r"(zero|one|two|half)[-_ ]?stars?|[012](\.\d+)?[-_ ]?(stars?|★)|★{1,2}", re.IGNORECASE)
MANY_STARS = 100


def sounds_low(kind: str) -> bool:
    """Tell whether a kind sounds like a dislike, as 'report', 'notInterested', 'UNLIKE' or '1 star' do."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    words = [word for word in re.split(r"[\W_]+", spaced) if word]
    return (
        any(LOW.fullmatch(word) or OPPOSITE.match(word) for word in words)
        or bool(OPPOSITE.search("_".join(words)))
        or bool(NAMED_STARS.fullmatch(kind.strip()))
    )


def read_stars(kinds: Sequence[str]) -> list[float]:
    """Return the numbers that all these kinds are, such as '1' to '5' or '4 stars'; none if one is no such number."""
    found = [STARS.fullmatch(kind) for kind in kinds]
    numbers = [float(match[1]) for match in found if match]
    if len(numbers) < len(kinds) or len(numbers) < 2 or max(numbers) > MANY_STARS:
        return []
    return sorted(numbers)
