"""The endpoint that records which posts were shown."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from fastapi import FastAPI, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recdb.service.backend import Backend
from recdb.service.bodies import TEXT, Id, Request, as_whole
from recdb.service.position import WROTE, give_position

MAX_SHOWN = 1000
MAX_PLACE = 32_767

Place = Annotated[int, Field(ge=1, le=MAX_PLACE), BeforeValidator(as_whole)]
Share = Annotated[float, Field(ge=1e-30, le=1, allow_inf_nan=False)]
Label = Annotated[str, Field(min_length=1, max_length=100, pattern=TEXT)]


class ImpressionsRequest(Request):
    """A page of posts that is shown now."""

    user_id: Id
    post_ids: list[Id] = Field(max_length=MAX_SHOWN, description="The posts, in their order on the page.")
    scenario: Label | None = Field(None, description="The place in the product, such as home. Null is `default`.")
    places: list[Place] | None = Field(
        None, max_length=MAX_SHOWN, description="The place of each of `post_ids`, from 1; their order unless given."
    )
    model_version: Label | None = Field(
        None, description="The `model_version` of the recommendations; that which serves the user now unless given."
    )
    variant: Label | None = Field(None, description="The user's variant; that of the running experiment unless given.")
    propensities: list[Share | None] | None = Field(
        None,
        max_length=MAX_SHOWN,
        description="For each of `post_ids`, the probability with which the page showed it at its place.",
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name in ("places", "propensities"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.post_ids):
                raise ValueError(f"{name} has {len(values)} numbers for {len(self.post_ids)} post_ids")
        return self

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={"examples": [{"user_id": "user-42", "post_ids": ["post-7", "post-3"], "scenario": "home"}]},
    )


class RecordedImpressions(BaseModel):
    """The impressions are committed."""

    recorded: int = Field(ge=0, description="How many.", examples=[2])


def add_impressions(app: FastAPI, backend: Backend, failures: Mapping[int | str, dict[str, Any]]) -> None:
    """Add the endpoint to the application."""

    @app.post("/impressions", status_code=201, responses=WROTE | dict(failures), tags=["recommendations"])
    async def show(body: ImpressionsRequest, response: Response) -> RecordedImpressions:
        """Record which posts a page shows to a user. It changes no list by itself."""
        recorded = await backend.ask(
            lambda client: client.impressions(
                body.user_id,
                body.post_ids,
                body.scenario,
                body.places,
                model_version=body.model_version,
                variant=body.variant,
                propensities=body.propensities,
            )
        )
        give_position(backend, body.user_id, response)
        return RecordedImpressions(recorded=recorded)
