"""Make the example's database: the application's tables with data, and recdb beside them.

    python prepare.py postgresql://… [--users 10000 --posts 4000 --interactions 400000]

The commands after seed() are all that an existing application needs to use recdb, with a feed that is steered and an
experiment that compares two ways to steer it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import psycopg
from seed import seed

HERE = Path(__file__).parent


def recdb(url: str, *arguments: str) -> None:
    """Run a recdb command."""
    subprocess.run([sys.executable, "-m", "recdb.cli", *arguments, "--url", url], check=True, stdout=sys.stderr)


def prepare(url: str, *, users: int, posts: int, interactions: int) -> None:
    """Make and fill the tables, install recdb, attach the tables, train, steer the feed, and grant the rights."""
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "schema.sql").read_text())
    seed(url, users=users, posts=posts, interactions=interactions)
    recdb(url, "init")
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "kinds.sql").read_text())
    recdb(
        url, "attach",
        "--interactions", "public.user_interaction",
        "--user", "user_id", "--item", "post_id", "--kind", "interaction_type", "--at", "created_at",
        "--also", "public.comment user=user_id item=post_id kind=comment at=created_at",
        "--also", "public.follow user=follower_id item=following_id kind=follow at=created_at",
        "--also", "public.post user=user_id item=original_post_id kind=share at=created_at",
        "--items", "public.post",
        "--item-id", "id", "--owner", "user_id", "--published", "created_at", "--title", "content",
        "--available", "deleted_at is null and original_post_id is null",
    )  # fmt: skip
    recdb(url, "refresh")
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "scenarios.sql").read_text())
    recdb(
        url, "experiment", "start", "fresher",
        "--scenario", "home", "--variant", "usual=1", "--variant", "fresh=1,scenario=home-fresh",
    )  # fmt: skip
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "grants.sql").read_text())


def main() -> None:
    """Read the command line and make the database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    add_sizes(parser)
    prepare(**vars(parser.parse_args()))


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options for the amount of data."""
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--posts", type=int, default=4_000)
    parser.add_argument("--interactions", type=int, default=400_000)


if __name__ == "__main__":
    main()
