"""Middleware around every request: its id, the limit on its body, its line in the log, its metrics."""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recdb.service.bodies import Error
from recdb.service.metrics import Metrics

MAX_BODY = 1024 * 1024
UNMATCHED = "unmatched"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger("recdb.service")


def error_response(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    hint: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    shape: type[Error] = Error,
) -> JSONResponse:
    """Make the response of an error and keep the error for the log; escape characters that are not Unicode."""
    detail = detail.encode("utf-8", "backslashreplace").decode()
    scope["state"]["error"] = detail
    body = shape(error=code, detail=detail, hint=hint, request_id=scope["state"]["request_id"])
    return JSONResponse(body.model_dump(), status, headers)


class Observe:
    """ASGI middleware: request ids, limited bodies, the log and the metrics; an unhandled exception is a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and observe its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watched = _Watched(scope, receive, send)
        try:
            await watched.run(self._app)
        finally:
            route = getattr(scope.get("route"), "path", UNMATCHED)
            seconds = time.perf_counter() - watched.began
            self._metrics.count_request(route, watched.status, seconds)
            watched.log(route, seconds)


class _Watched:
    """One request that is being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self.began = time.perf_counter()
        self.status = 500
        self._started = False
        self._size = 0
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self._id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        length = headers.get("content-length", "")
        self._declared = int(length) if length.isdecimal() else 0
        scope.setdefault("state", {})["request_id"] = self._id

    async def run(self, app: ASGIApp) -> None:
        """Answer the request, even if the application fails."""
        try:
            await app(self._scope, self._read, self._write)
        except Exception:
            log.exception("failed", extra={"fields": {"request_id": self._id}})
            if self._started:
                raise
            response = error_response(
                self._scope, 500, "internal", "recdb failed", "look for the request_id in the log"
            )
            await response(self._scope, self._receive, self._write)

    async def _read(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if max(self._size, self._declared) > MAX_BODY:
            raise HTTPException(413, f"the body is longer than {MAX_BODY} bytes")
        return message

    async def _write(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self._id
        await self._send(message)

    def log(self, route: str, seconds: float) -> None:
        """Write the request's line, without ids of users."""
        client = self._scope.get("client")
        fields: dict[str, Any] = {
            "request_id": self._id,
            "method": self._scope["method"],
            "route": route,
            "status": self.status,
            "milliseconds": round(seconds * 1000, 2),
            "client": client[0] if client else None,
        }
        state = self._scope["state"]
        fields |= {name: state[name] for name in ("rows", "error") if name in state}
        log.log(logging.WARNING if self.status >= 500 else logging.INFO, "request", extra={"fields": fields})
