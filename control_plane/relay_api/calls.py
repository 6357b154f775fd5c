"""What every call of a relay goes through: who calls, and errors as gRPC statuses.

The counterpart is :mod:`data_plane.control`. A :class:`DomainError` becomes the status of the
one table in :mod:`control_plane.errors` with its code in the trailing metadata
``jitgate-code``; anything else is logged by type and place and told as ``INTERNAL``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog

from control_plane.database import Database
from control_plane.errors import STATUS, DomainError, Unauthenticated
from control_plane.relays.service import RelayIdentity, RelayService

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]

_MAX_CREDENTIAL = 200
_CODE = "jitgate-code"


class Revoked(Exception):
    """The relay was known when the call began, and no longer is."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Doorkeeper:
    """Knows relays by the credential in a call's metadata."""

    def __init__(self, database: Database, relays: RelayService) -> None:
        self._database = database
        self._relays = relays

    def credential(self, context: Context) -> str:
        """The credential presented. Raises Unauthenticated."""
        given = [
            value
            for name, value in context.invocation_metadata() or ()
            if name.lower() == "authorization"
        ]
        if len(given) != 1 or not isinstance(given[0], str):
            raise Unauthenticated("relay_credential_missing", "a relay's credential is needed")
        scheme, _, credential = given[0].partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(credential) <= _MAX_CREDENTIAL:
            raise Unauthenticated("relay_credential_missing", "a relay's credential is needed")
        return credential

    def admit(self, credential: str) -> RelayIdentity:
        """Whose credential it is. Raises Unauthenticated. Blocks: not for the event loop."""
        with self._database.transaction() as session:
            return self._relays.authenticate(session, credential)

    def admit_still(self, credential: str) -> RelayIdentity:
        """As :meth:`admit`, in the middle of a call. Raises :class:`Revoked`."""
        try:
            return self.admit(credential)
        except Unauthenticated as error:
            raise Revoked(error.code, error.message) from None


def unary(method: Unary) -> Unary:
    """``method`` with its errors as statuses."""

    async def handler(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except Exception as error:  # noqa: BLE001  # the edge: told as a status, not lost
            failure = error
        return await _abort(context, failure)

    return handler


def stream(method: Stream) -> Stream:
    """``method``, an asynchronous generator, with its errors as statuses."""

    async def handler(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for message in method(request, context):
                yield message
            return
        except Exception as error:  # noqa: BLE001  # as above
            failure = error
        await _abort(context, failure)

    return handler


async def _abort(context: Context, error: Exception) -> NoReturn:
    match error:
        case grpc.aio.AbortError():
            raise error
        case Revoked():
            status, code, message = "PERMISSION_DENIED", error.code, error.message
        case DomainError():
            status = next(STATUS[kind][1] for kind in type(error).__mro__ if kind in STATUS)
            code, message = error.code, error.message
        case _:
            # Its message can hold anything; its type and place can't.
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = trace.tb_frame.f_code.co_qualname if trace is not None else "?"
            structlog.get_logger(__name__).error(
                "relay call failed", error=type(error).__name__, place=place
            )
            status, code, message = "INTERNAL", "internal_error", "the control plane failed"
    await context.abort(grpc.StatusCode[status], message, ((_CODE, code),))
    raise AssertionError("abort returns to nobody")
