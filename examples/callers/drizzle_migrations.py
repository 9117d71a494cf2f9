"""Drizzle's own migrations beside recdb: they see nothing of it, and keep the indexes that recdb advises.

Each folder of FOLDERS has a version of drizzle-kit. Its commands run here as a user runs them, with the settings of
drizzle.config.ts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
FOLDERS = {"0.31": HERE, "1.0": HERE / "drizzle-1"}
ADVICE = re.compile(r'pgTable\("(\w+)", .*?\): (index\(\)\.on\([^)]*\))')


class Project:
    """An application that Drizzle migrates, in a folder with drizzle-kit."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.generated = folder / "drizzle-generated"
        self.schema = self.generated / "schema.ts"

    def kit(self, *arguments: str) -> str:
        """Run a command of drizzle-kit and return its output. Raises CalledProcessError if it fails."""
        command = ["node", "node_modules/drizzle-kit/bin.cjs", *arguments, f"--config={HERE / 'drizzle.config.ts'}"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "DATABASE_URL": self.url},
            check=False,
            stdin=subprocess.DEVNULL,  # without a terminal, drizzle-kit asks nothing
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"drizzle-kit {' '.join(arguments)}: {done.stdout}")
        return done.stdout

    def expect_no_drift(self) -> None:
        """Check that a push to the database finds nothing to change."""
        pushed = self.kit("push", "--force")
        assert "No changes detected" in pushed, pushed

    def add_indexes(self, advice: list[tuple[str, str]]) -> None:
        """Write indexes into the tables of schema.ts."""
        text = self.schema.read_text()
        for table, index in advice:
            text, found = re.subn(rf'(pgTable\("{table}", \{{.*?\(table\) => \[)', rf"\1\n\t{index},", text, flags=re.S)
            assert found == 1, f"schema.ts has no table {table}"
        self.schema.write_text(text)


def doctor(url: str) -> dict[str, str]:
    """Ask recdb doctor about the attached tables."""
    command = [sys.executable, "-m", "recdb.cli", "doctor", "--json", "--url", url]
    answer = json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    (attached,) = [check for check in answer["checks"] if check["check"] == "attached"]
    return {name: value or "" for name, value in attached.items()}


def count_indexes(connection: psycopg.Connection) -> int:
    """Count the indexes of the application's tables."""
    (count,) = connection.execute("select count(*) from pg_indexes where schemaname = 'public'").fetchone() or (0,)
    return int(count)


def run(folder: Path, url: str) -> None:
    """Take over an application's tables with drizzle-kit beside recdb, and follow the advice of recdb doctor."""
    project = Project(folder, url)
    shutil.rmtree(project.generated, ignore_errors=True)
    with psycopg.connect(url, autocommit=True) as connection:
        before = count_indexes(connection)
        try:
            project.kit("introspect")
            assert "user_interaction" in project.schema.read_text()
            assert "recdb" not in project.schema.read_text()
            project.expect_no_drift()
            generated = project.kit("generate")
            assert "No schema changes" in generated, generated
            # The first migration holds the tables that are there, as a comment that Drizzle 0.31 cannot run.
            for migration in project.generated.rglob("*.sql"):
                migration.write_text("select 1;")
            project.kit("migrate")

            connection.execute("create index beside_drizzle on post (content)")
            project.kit("push", "--force")
            assert count_indexes(connection) == before, "Drizzle drops an index that it does not know"

            advice = ADVICE.findall(doctor(url)["mend"])
            assert len(advice) == 3, doctor(url)
            project.add_indexes(advice)
            project.kit("generate")
            project.kit("migrate")
            now = count_indexes(connection)
            assert now == before + len(advice), f"{now} indexes after {len(advice)} were added to {before}"
            assert doctor(url)["state"] == "ok", doctor(url)
            project.expect_no_drift()
            connection.execute("select * from recdb.health")
        finally:
            for (name,) in connection.execute(
                r"select indexname from pg_indexes where schemaname = 'public' and indexname ~ '_index$|_idx$'"
            ).fetchall():
                connection.execute(f'drop index public."{name}"')
            connection.execute("drop schema if exists drizzle cascade")
            shutil.rmtree(project.generated, ignore_errors=True)


if __name__ == "__main__":
    for name, folder in FOLDERS.items():
        run(folder, os.environ["DATABASE_URL"])
        print(f"Drizzle {name}: ok")
