"""Writes the lists of all users to a CSV file.

They are the lists that recommend() would return to each user as of the last refresh. Everything is read in one
snapshot, by COPY; recommend() is never called.
"""

import fcntl
import glob
import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from recdb.arrays.snapshot import Snapshot, read_snapshot
from recdb.citus import lift_result_limit
from recdb.database import Database, connect
from recdb.errors import InvalidInput, RecdbError
from recdb.everyone.rank import Lists, rank_everybody
from recdb.everyone.steered import HEADER, Written, acts, quote, write_steered
from recdb.faults import reach
from recdb.migrate import require_whole
from recdb.progress import Report, silent

REASONS = ("collaborative_filtering", "content")
STDOUT = "-"


def recommend_all(
    database: Database, path: str, *, k: int = 50, scenario: str | None = None, report: Report = silent
) -> Written:
    """Write the lists of all users to a CSV file, gzipped where its name ends in .gz; '-' is standard output.

    A user's rows stand together, best first. The users are in no particular order; users for whom the model has no
    recommendation have no rows. Where a scenario acts, `scenario` or else `default`, recdb.recommend_batch() makes the
    lists. The file appears when it is complete. Raises RecdbError where no model has been trained yet, InvalidInput for
    a k outside 1..1000, an unknown scenario or a file that cannot be written.
    """
    began = time.monotonic()
    if not 1 <= k <= 1000:
        raise InvalidInput(f"k is {k}, and must be between 1 and 1000")
    users = rows = done = 0
    with open_output(path) as file:
        reach("lists opened")
        with connect(database) as connection:
            require_whole(connection)
            with connection.transaction():
                lift_result_limit(connection)
            if acts(connection, scenario):
                return write_steered(connection, file, k, scenario, report)
            snapshot = read_snapshot(connection, report)
        write_text = renderer(snapshot)
        file.write(HEADER.encode())
        for ranked, lists in rank_everybody(snapshot, k, report):
            file.write(write_text(lists).encode())
            users, rows, done = users + int((lists.ranks == 1).sum()), rows + len(lists.users), done + ranked
            reach("lists begun")
            report(f"lists, {done:,} of {len(snapshot.user_ids) - 1:,} users")
        reach("lists written")
    return Written(users, rows, snapshot.served["label"], time.monotonic() - began)


def renderer(snapshot: Snapshot) -> Callable[[Lists], str]:
    """Return a function that writes lists as lines of CSV."""
    user_ids, item_ids = quote(snapshot.user_ids), quote(snapshot.item_ids)
    (label,) = quote([snapshot.served["label"]])
    reasons = [REASONS[by_content] for by_content in snapshot.by_content.tolist()]

    def render(lists: Lists) -> str:
        rows = zip(lists.users.tolist(), lists.ranks.tolist(), lists.items.tolist(), lists.scores.tolist(), strict=True)
        return "".join(
            [
                f"{user_ids[user]},{rank},{item_ids[item]},{score},{reasons[item]},{label}\n"
                for user, rank, item, score in rows
            ]
        )

    return render


@contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Open a file that appears when the block has succeeded; it is gzipped where its name ends in .gz.

    Standard output ('-'), and a pipe or a device, are written to directly.
    """
    if path == STDOUT:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discard the rest
            raise RecdbError("standard output was closed before all was written") from error
        return
    target = Path(path).resolve()
    straight = target.exists() and not target.is_file()
    writing = target if straight else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if not straight:
            remove_abandoned(target)
        with (
            writing.open("wb") as raw,
            gzip.open(raw, "wb", compresslevel=3) if target.suffix == ".gz" else raw as file,
        ):
            if not straight:
                fcntl.flock(raw, fcntl.LOCK_EX)
            yield cast(BinaryIO, file)
        if not straight:
            writing.replace(target)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if not straight:
            with suppress(OSError):
                writing.unlink(missing_ok=True)


def remove_abandoned(target: Path) -> None:
    """Remove the part of this file that a killed process left; a process that still writes holds a lock on its part."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
