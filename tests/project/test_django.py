"""Django of an application: recdb's tables are no part of its models, and the index that recdb advises is."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from recdb.data.attach import attach
from recdb.data.sources import parse_source
from recdb.database import Database

pytest.importorskip("django", reason="the extra dev has Django")

SETTINGS = """
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
MODELS = """
from django.db import models

class Customer(models.Model):
    name = models.TextField()

class Visit(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, db_index=False)
    product_id = models.BigIntegerField()
    created_at = models.DateTimeField()
"""


def manage(folder: Path, *arguments: str) -> str:
    """Run a command of Django on the application."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    command = [sys.executable, "-W", "ignore", "-m", "django", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_django_sees_no_drift_and_makes_the_index_that_is_advised(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    place = {"NAME": db.info.dbname, "USER": db.info.user, "HOST": db.info.host, "PORT": db.info.port}
    (tmp_path / "settings.py").write_text(f"{SETTINGS}DATABASES['default'] |= {place!r}\n")
    models = tmp_path / "shop" / "models.py"
    models.parent.mkdir()
    (models.parent / "__init__.py").write_text("")
    models.write_text(MODELS)
    manage(tmp_path, "makemigrations", "shop")
    manage(tmp_path, "migrate")

    source = parse_source("shop_visit user=customer_id item=product_id kind='view' at=created_at")
    (found,) = attach(database, [source])
    assert "No changes detected" in manage(tmp_path, "makemigrations", "--check")
    shown = manage(tmp_path, "inspectdb")
    assert "ShopVisit" in shown and "Interaction" not in shown

    (advice,) = [remark.fix or "" for remark in found.warnings if "one user's rows" in remark.message]
    assert advice.startswith("Django: add to class Meta of the model of table shop_visit: ")
    line = advice.partition("shop_visit: ")[2].partition("; then")[0]
    models.write_text(f"{MODELS}\n    class Meta:\n        {line}\n")
    manage(tmp_path, "makemigrations", "shop")
    manage(tmp_path, "migrate")
    (found,) = attach(database, [source])
    assert not [remark for remark in found.warnings if "one user's rows" in remark.message]
    assert "No changes detected" in manage(tmp_path, "makemigrations", "--check")
