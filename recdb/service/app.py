"""The routes of the HTTP service; each one calls a SQL function, and computes nothing itself."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from recdb.database import Database
from recdb.distribution import installed_version
from recdb.errors import InvalidInput, NoStandby, NotInstalled, NotPermitted, RecdbError, Unavailable
from recdb.records import Recommendation
from recdb.replicas import MAX_LAG
from recdb.schemas import in_schema
from recdb.service.backend import Backend
from recdb.service.bodies import (
    MAX_LIMIT,
    Alive,
    Contribution,
    Error,
    ExplainRequest,
    Explanation,
    GuestRecommendations,
    GuestRequest,
    Healthy,
    InteractionRequest,
    PopularPost,
    PopularPosts,
    PopularRequest,
    RecommendationRequest,
    Recommendations,
    RecommendedPost,
    Recorded,
    SimilarPost,
    SimilarPosts,
    SimilarRequest,
    TrendingPost,
    TrendingPosts,
    TrendingRequest,
    Unhealthy,
)
from recdb.service.metrics import Metrics
from recdb.service.observe import MAX_BODY, Observe, error_response
from recdb.service.position import WROTE, Position, give_position, take_position
from recdb.service.shown import add_impressions

SHOWN_PROBLEMS = 5
NO_PART_OF_THE_SCORE = ("explored", "pinned")
"""The sources of recdb.explain() that do not count for the sum."""
RETRY_AFTER = {"Retry-After": "2"}
"""Seconds: a pool needs this long to reconnect to a database that is up again."""

NOT_READY: tuple[type[RecdbError], ...] = (Unavailable, NotInstalled, NotPermitted, NoStandby)
"""Errors that neither the caller nor the service caused: trying again later may help."""

HINTS: dict[type[RecdbError], str] = {
    NotInstalled: "run: recdb init",
    NotPermitted: "grant recdb_reader, recdb_writer to the role that the service connects as",
}

CODES = {
    404: ("not_found", "see /docs"),
    405: ("method_not_allowed", "see /docs"),
    413: ("too_large", "send fewer ids or less metadata"),
}


def _failure(description: str, error: str, detail: str, hint: str, *, shape: type[Error] = Error) -> dict[str, Any]:
    """Describe a failure for OpenAPI, with an example."""
    example = shape(error=error, detail=detail, hint=hint, request_id="8f14e45fceea167a").model_dump()
    return {"model": shape, "description": description, "content": {"application/json": {"example": example}}}


def _unavailable(description: str, shape: type[Error] = Error) -> dict[str, Any]:
    detail = "cannot connect to app at database (from RECDB_DATABASE_URL): connection refused"
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return _failure(description, "unavailable", detail, "is the server up?", shape=shape) | {"headers": retry}


FAILURES: dict[int | str, dict[str, Any]] = {
    413: _failure("The body is too large.", CODES[413][0], f"the body is longer than {MAX_BODY} bytes", CODES[413][1]),
    422: _failure(
        "The body is not as described here.",
        "invalid_request",
        "limit: Input should be less than or equal to 100",
        "see /docs",
    ),
    500: _failure("recdb failed.", "internal", "recdb failed", "look for the request_id in the log"),
    503: _unavailable("The database or recdb is not there, or busy."),
}

log = logging.getLogger("recdb.service")


def create_app(
    database: Database,
    *,
    max_connections: int = 8,
    timeout: float = 5.0,
    standby: Database | None = None,
    max_lag: float = MAX_LAG,
) -> FastAPI:
    """Make the ASGI application; it connects when it starts, and also starts without a database.

    `max_connections` limits the pool, and `timeout` (seconds) limits how long a request waits for the database. It
    reads from `standby` while that is no more than `max_lag` seconds behind.
    """
    backend = Backend(database, max_connections=max_connections, timeout=timeout, standby=standby, max_lag=max_lag)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend:
            if reason := await backend.why_not_ready():
                log.warning("not ready", extra={"fields": {"error": str(reason), "hint": reason.hint}})
            yield

    app = FastAPI(
        title="recdb",
        version=installed_version(),
        summary="Recommendations inside PostgreSQL.",
        description="Ids are the application's own, as text. Every answer has the header `X-Request-ID`: "
        "the request's, or one made for it.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.schema = database.schema
    app.add_middleware(Observe, metrics=metrics)
    _add_error_handlers(app)
    _add_recommending(app, backend, metrics)
    add_impressions(app, backend, FAILURES)
    _add_exploring(app, backend)
    _add_watching(app, backend, metrics)
    return app


def _add_recommending(app: FastAPI, backend: Backend, metrics: Metrics) -> None:
    @app.post("/recommendations/generate", responses=FAILURES, tags=["recommendations"])
    async def generate(body: RecommendationRequest, request: Request, position: Position = "") -> Recommendations:
        """Recommend posts for a user, best first. The list reflects the user's last interaction."""
        take_position(backend, body.user_id, position)
        rows = await backend.ask(
            lambda client: client.recommend(
                body.user_id,
                body.limit,
                body.exclude_post_ids,
                body.fallback,
                body.filter,
                among=body.among,
                scenario=body.scenario,
                segment=body.segment,
            )
        )
        metrics.count_answer(rows)
        request.scope["state"]["rows"] = len(rows)
        return Recommendations(user_id=body.user_id, **_as_posts(rows))

    @app.post("/recommendations/guest", responses=FAILURES, tags=["recommendations"])
    async def guest(body: GuestRequest, request: Request) -> GuestRecommendations:
        """Recommend posts for somebody without an id, from the posts that this visit looked at."""
        rows = await backend.ask(
            lambda client: client.recommend_for_items(
                body.post_ids,
                body.limit,
                body.exclude_post_ids,
                body.weights,
                body.fallback,
                body.filter,
                among=body.among,
                scenario=body.scenario,
                segment=body.segment,
            )
        )
        metrics.count_answer(rows)
        request.scope["state"]["rows"] = len(rows)
        return GuestRecommendations(**_as_posts(rows))

    @app.post("/interactions", status_code=201, responses=WROTE | FAILURES, tags=["recommendations"])
    async def record(body: InteractionRequest, response: Response) -> Recorded:
        """Record an interaction. The user's next recommendations reflect it."""
        number = await backend.ask(
            lambda client: client.track(
                body.user_id, body.post_id, body.interaction_type, metadata=body.metadata, value=body.value
            )
        )
        metrics.count_interaction()
        give_position(backend, body.user_id, response)
        return Recorded(interaction_id=number)


def _as_posts(rows: Sequence[Recommendation]) -> dict[str, Any]:
    """Return the fields that every list of recommendations has."""
    return {
        "recommendations": [RecommendedPost(post_id=row.item_id, score=row.score, reason=row.reason) for row in rows],
        "count": len(rows),
        "model_version": rows[0].model_version if rows else None,
    }


def _add_exploring(app: FastAPI, backend: Backend) -> None:
    @app.post("/recommendations/similar", responses=FAILURES, tags=["recommendations"])
    async def similar(body: SimilarRequest, request: Request) -> SimilarPosts:
        """Return the posts most like a post, nearest first, such as for the page of that post."""
        rows = await backend.ask(lambda client: client.similar_items(body.post_id, body.limit))
        request.scope["state"]["rows"] = len(rows)
        posts = [SimilarPost(post_id=row.neighbor_id, similarity=row.similarity) for row in rows]
        return SimilarPosts(post_id=body.post_id, similar=posts, count=len(posts))

    @app.get("/recommendations/popular", responses=FAILURES, tags=["recommendations"])
    async def popular(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="The most posts to return.")] = 50,
    ) -> PopularPosts:
        """Return the most popular posts, for everybody alike."""
        return await list_popular(PopularRequest(limit=limit), request)

    @app.post("/recommendations/segment", responses=FAILURES, tags=["recommendations"])
    async def popular_in_segment(body: PopularRequest, request: Request) -> PopularPosts:
        """Return the most popular posts, such as those of a topic or among the users of a country."""
        return await list_popular(body, request)

    async def list_popular(body: PopularRequest, request: Request) -> PopularPosts:
        rows = await backend.ask(lambda client: client.popular(body.limit, body.filter, body.segment))
        request.scope["state"]["rows"] = len(rows)
        posts = [PopularPost(post_id=row.item_id, score=row.score) for row in rows]
        return PopularPosts(popular=posts, count=len(posts))

    @app.post("/recommendations/trending", responses=FAILURES, tags=["recommendations"])
    async def trending(body: TrendingRequest, request: Request) -> TrendingPosts:
        """Return the posts that more users touch now than usual, those that rise most first."""
        window = timedelta(hours=body.window_hours)
        rows = await backend.ask(lambda client: client.trending(body.limit, window, body.filter))
        request.scope["state"]["rows"] = len(rows)
        posts = [TrendingPost(post_id=row.item_id, score=row.score, rise=row.rise, users=row.users) for row in rows]
        return TrendingPosts(trending=posts, count=len(posts))

    @app.post("/recommendations/explain", responses=FAILURES, tags=["recommendations"])
    async def explain(body: ExplainRequest, request: Request, position: Position = "") -> Explanation:
        """Return why a user gets a post: contributions that add up to its score, the largest first."""
        take_position(backend, body.user_id, position)
        rows = await backend.ask(lambda client: client.explain(body.user_id, body.post_id, scenario=body.scenario))
        request.scope["state"]["rows"] = len(rows)
        reasons = [
            Contribution(source=row.source, because_post_id=row.because_id, contribution=row.contribution)
            for row in rows
        ]
        score = sum(row.contribution for row in rows if row.source not in NO_PART_OF_THE_SCORE)
        return Explanation(user_id=body.user_id, post_id=body.post_id, score=score, reasons=reasons, count=len(reasons))


def _add_watching(app: FastAPI, backend: Backend, metrics: Metrics) -> None:
    @app.get(
        "/health",
        response_model=Healthy,
        responses={503: _unavailable("Not ready, and why.", Unhealthy)},
        tags=["operation"],
    )
    async def health(request: Request) -> Healthy | Response:
        """Tell whether requests can be answered: the database answers, and recdb is installed. For readiness probes."""
        reason = await backend.why_not_ready()
        return _not_ready(request, reason, shape=Unhealthy) if reason else Healthy()

    @app.get("/live", tags=["operation"])
    async def live() -> Alive:
        """Tell that this process answers, even if the database does not. For liveness probes."""
        return Alive()

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."}},
        tags=["operation"],
    )
    async def read_metrics() -> Response:
        """Return the metrics as Prometheus text."""
        ready = await backend.why_not_ready() is None
        model = await backend.active_model() if ready else None
        text = metrics.expose(ready, model, backend.pool.get_stats(), backend.client.reads())
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _not_ready(request: Request, reason: RecdbError, shape: type[Error] = Error) -> JSONResponse:
    hint = in_schema(HINTS.get(type(reason)) or reason.hint or "", request.app.state.schema) or None
    return error_response(request.scope, 503, "unavailable", str(reason), hint, headers=RETRY_AFTER, shape=shape)


def _add_error_handlers(app: FastAPI) -> None:
    """Give every error a body of the same shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(request.scope, 422, "invalid_request", describe(error.errors()), "see /docs")

    @app.exception_handler(RecdbError)
    async def refused(request: Request, error: RecdbError) -> Response:
        if isinstance(error, InvalidInput):
            return error_response(request.scope, 422, "invalid_request", str(error), error.hint)
        if isinstance(error, NOT_READY):
            return _not_ready(request, error)
        raise error

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's status for a body that is not JSON
            return error_response(request.scope, 422, "invalid_request", "the body is not valid JSON", "see /docs")
        code, hint = CODES.get(error.status_code, ("failed", None))
        return error_response(request.scope, error.status_code, code, str(error.detail), hint, headers=error.headers)


def describe(problems: Sequence[Any]) -> str:
    """Describe the problems of a body in one line; of many problems, the first ones."""
    described = []
    for problem in problems[:SHOWN_PROBLEMS]:
        place = ".".join(str(part) for part in problem["loc"][1:])[:100]
        message = problem["msg"].removeprefix("Value error, ")
        described.append(f"{place}: {message}" if place else message)
    more = len(problems) - SHOWN_PROBLEMS
    return "; ".join(described) + (f"; and {more} more" if more > 0 else "")
