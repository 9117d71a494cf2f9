"""Helpers that the tests of the HTTP service share: its role, a path, a body, and the shape of errors."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

ROLE = "recdb_http_test"

GENERATE = "/recommendations/generate"

INTERACTION = {"user_id": "u1", "post_id": "i1", "interaction_type": "view"}


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that an error has the shape of all errors; return its body."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert {"error", "detail", "hint", "request_id"} <= set(body)
    assert body["error"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def read_metrics(client: httpx.Client, family: str) -> list[Sample]:
    """Read the samples of one family from /metrics; [] if there are none."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return [sample for found in families if found.name == family for sample in found.samples
            if not sample.name.endswith("_created")]  # fmt: skip
