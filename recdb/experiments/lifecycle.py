"""Starting and stopping experiments."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from recdb.database import Database, connect, require_primary
from recdb.errors import InvalidInput, RecdbError
from recdb.migrate import require_installed


@dataclass(frozen=True)
class Variant:
    """A variant of an experiment: a model version, a scenario's row, both, or neither, which is the usual list."""

    name: str
    weight: float = 1.0
    model: str | None = None
    scenario: str | None = None


def parse_variant(text: str) -> Variant:
    """Parse 'NAME[=WEIGHT][,model=LABEL][,scenario=NAME]'; raise InvalidInput."""
    form = "write --variant fresh or --variant fresh=0.5,scenario=home-fresh or --variant new=1,model=LABEL"
    head, *settings = [part.strip() for part in text.split(",")]
    name, _, weight = head.partition("=")
    chosen = dict(setting.partition("=")[::2] for setting in settings)
    unknown = [key for key, value in chosen.items() if key not in ("model", "scenario") or not value]
    try:
        share = float(weight or 1)
    except ValueError:
        raise InvalidInput(f"'{weight}' is no weight of a variant", form) from None
    if not name or unknown:
        raise InvalidInput(f"'{text}': {f'{unknown[0]} is not understood' if unknown else 'a name is missing'}", form)
    return Variant(name, share, chosen.get("model"), chosen.get("scenario"))


def start_experiment(database: Database, name: str, scenario: str | None, variants: Sequence[Variant]) -> None:
    """Start an experiment; with `variants` make it first, else its rows are in recdb.experiment already."""
    with connect(database) as connection:
        require_installed(connection)
        require_primary(connection)
        try:
            if variants:
                connection.execute(
                    "insert into recdb.experiment (name, scenario) values (%s, coalesce(%s, 'default'))",
                    [name, scenario],
                )
                for variant in variants:
                    connection.execute(
                        "insert into recdb.experiment_variant (experiment, name, weight, model_version, scenario) "
                        "values (%s, %s, %s, %s, %s)",
                        [name, variant.name, variant.weight, variant.model, variant.scenario],
                    )
            connection.execute("select recdb.start_experiment(%s)", [name])
        except psycopg.errors.UniqueViolation as error:
            detail = error.diag.message_detail or ""
            thing = "variant" if "experiment_variant" in (error.diag.constraint_name or "") else "experiment"
            raise RecdbError(f"there is such a {thing} already: {detail}", "give it another name") from error
        except psycopg.errors.CheckViolation as error:
            raise InvalidInput(
                f"the experiment is refused: {error.diag.message_primary}",
                "names have letters, digits, dots, - and _; weights are above 0",
            ) from error


def stop_experiment(database: Database, name: str) -> None:
    """Stop a running experiment."""
    with connect(database) as connection:
        require_installed(connection)
        require_primary(connection)
        connection.execute("select recdb.stop_experiment(%s)", [name])
