"""What can go wrong in a domain, and the one table of what that is on the wire.

A service raises these and knows neither FastAPI nor gRPC; :mod:`control_plane.app` answers
them as ``application/problem+json``, :mod:`control_plane.relay_api` as a gRPC status. ``code``
is stable and meant for programs; ``message`` is for people and holds no secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Location:
    """Where in a document something is wrong; lines and columns count from 1."""

    line: int
    column: int
    message: str
    document: int = 1


class DomainError(Exception):
    """Something that the caller can be told."""

    def __init__(self, code: str, message: str, *, errors: Sequence[Location] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.errors = tuple(errors)


class Invalid(DomainError):
    """What was sent can't be accepted, whoever sends it."""


class Unauthenticated(DomainError):
    """It isn't known who is asking; ``code`` says which check failed."""


class Forbidden(DomainError):
    """It is known who is asking, and they may not."""


class NotFound(DomainError):
    """There is no such thing, or none that the caller may see."""


class Conflict(DomainError):
    """It was true when the caller looked, and no longer is."""


class Unavailable(DomainError):
    """It can't be done now; trying again later may help."""


STATUS: Mapping[type[DomainError], tuple[int, str, str]] = MappingProxyType(
    {
        Invalid: (422, "INVALID_ARGUMENT", "Invalid input"),
        Unauthenticated: (401, "UNAUTHENTICATED", "Not authenticated"),
        Forbidden: (403, "PERMISSION_DENIED", "Not permitted"),
        NotFound: (404, "NOT_FOUND", "Not found"),
        Conflict: (409, "ABORTED", "Conflict"),
        Unavailable: (503, "UNAVAILABLE", "Unavailable"),
    }
)
"""HTTP status, gRPC status name, and title of each kind of error."""
