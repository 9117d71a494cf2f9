"""The header that carries a user's position from the request that wrote to the next one that reads."""

from typing import Annotated, Any

from fastapi import Header, Response

from recdb.positions import PATTERN
from recdb.service.backend import Backend

HEADER = "X-Recdb-Position"

Position = Annotated[
    str,
    Header(
        alias=HEADER,
        pattern=f"{PATTERN}|^$",
        description="The header of the answer that recorded the user's last interaction, if the service reads from a "
        "standby: the list then reflects this interaction, whichever process recorded it.",
    ),
]

WROTE: dict[int | str, dict[str, Any]] = {
    201: {
        "headers": {
            HEADER: {
                "description": "Only if the service reads from a standby: send it with the user's next request.",
                "schema": {"type": "string", "pattern": PATTERN},
            }
        }
    }
}


def take_position(backend: Backend, user_id: str, position: str) -> None:
    """Let the user's reads see everything up to the position of a request; none if it is empty."""
    backend.client.remember(user_id, position or None)


def give_position(backend: Backend, user_id: str, response: Response) -> None:
    """Write the position of the user's last write into the headers of the answer."""
    if position := backend.client.position(user_id):
        response.headers[HEADER] = position
