"""What every HTTP exchange goes through: limits, headers, a request id, one log line.

Plain ASGI around the whole application; knows no route. Errors that nobody else answered end
here, so that the server above never prints them with what they hold.
"""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.problems import internal_problem, problem_response

MOST_BODY_BYTES = 8 * 1024 * 1024
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_DEFAULTS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""For responses that don't say otherwise themselves, as the console's pages do."""


class Exchange:
    """The middleware. ``extra`` headers go on every response."""

    def __init__(self, app: ASGIApp, extra: dict[str, str] | None = None) -> None:
        self._app = app
        self._extra = extra or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        wanted = given.get("x-request-id", "")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex
        status = 0
        read = 0
        began = time.monotonic()

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST_BODY_BYTES:
                raise HTTPException(413)
            return message

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in (_HEADERS | self._extra).items():
                    headers[name] = value
                for name, value in _DEFAULTS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if _announced(given) > MOST_BODY_BYTES:
                    answer = problem_response(
                        413, "Too large", "the request is larger than 8 MiB", "request_too_large"
                    )
                    await answer(scope, receive, headed)
                else:
                    await self._app(scope, bounded, headed)
            except Exception as error:  # noqa: BLE001  # an exchange's edge
                answer = internal_problem(error)
                if status == 0:
                    await answer(scope, receive, headed)
                else:
                    # Half a response is out already: only breaking off tells the client.
                    raise ConnectionAbortedError("a response could not be finished") from None
            finally:
                # The query can hold what people search for; the path holds names only.
                structlog.get_logger().info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=round((time.monotonic() - began) * 1000, 1),
                )


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0
