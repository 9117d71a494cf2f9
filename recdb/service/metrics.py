"""The metrics that Prometheus reads at /metrics; each service has a registry of its own."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from recdb.records import Recommendation
from recdb.service.backend import ActiveModel

BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters, a histogram and gauges under the names recdb_*."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "recdb_http_requests", "Requests, by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "recdb_http_request_seconds", "Time to the whole answer.", ["route"], buckets=BUCKETS, registry=registry
        )
        self._answers = Counter(
            "recdb_answers",
            "Lists of recommendations: personal, filled up with popular posts, popular posts only, or empty.",
            ["kind"],
            registry=registry,
        )
        self._rows = Counter("recdb_rows_returned", "Recommended posts, by reason.", ["reason"], registry=registry)
        self._interactions = Counter("recdb_interactions_recorded", "Interactions recorded.", registry=registry)
        self._counted: dict[str, int] = {}
        self._reads = Counter(
            "recdb_reads",
            "Calls that read, by the server that answered, if the service reads from a standby.",
            ["server"],
            registry=registry,
        )
        self._pool = {
            "pool_size": Gauge("recdb_pool_connections", "Connections in the pool.", registry=registry),
            "pool_available": Gauge("recdb_pool_idle", "Idle connections in the pool.", registry=registry),
            "requests_waiting": Gauge("recdb_pool_waiting", "Requests that wait for a connection.", registry=registry),
            "pool_max": Gauge("recdb_pool_max", "The most connections of the pool.", registry=registry),
        }
        self._ready = Gauge("recdb_ready", "1 if the database and recdb answer.", registry=registry)
        self._model_age = Gauge(
            "recdb_model_age_seconds",
            "Seconds since the active model was trained.",
            ["model_version"],
            registry=registry,
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_answer(self, rows: Sequence[Recommendation]) -> None:
        """Count a list of recommendations and its rows."""
        reasons = Tally(row.reason for row in rows)
        popular = reasons["popular"]
        kind = "empty" if not rows else "personal" if not popular else "popular" if popular == len(rows) else "filled"
        self._answers.labels(kind).inc()
        for reason, number in reasons.items():
            self._rows.labels(reason).inc(number)

    def count_interaction(self) -> None:
        """Count a recorded interaction."""
        self._interactions.inc()

    def expose(
        self, ready: bool, model: ActiveModel | None, pool: Mapping[str, int], reads: Mapping[str, int]
    ) -> bytes:
        """Return the text that Prometheus reads."""
        for server, number in reads.items():
            self._reads.labels(server).inc(number - self._counted.get(server, 0))
            self._counted[server] = number
        self._ready.set(ready)
        self._model_age.clear()
        if model is not None:
            self._model_age.labels(model.label).set(model.age)
        for name, gauge in self._pool.items():
            gauge.set(pool.get(name, 0))
        return generate_latest(self._registry)
