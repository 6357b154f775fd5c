"""REST: the feed as server-sent events (WHATWG HTML section 9.2), resumable.

A stream carries what its caller may see and ends when the caller's token does; the client
reconnects with ``Last-Event-ID`` and misses nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Set
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import StreamingResponse

from control_plane.database import now
from control_plane.errors import Invalid
from control_plane.identity.access import Caller, Role, require
from control_plane.problems import problems
from control_plane.sessions.events import EventFeed
from control_plane.sessions.models import Event
from control_plane.wakeups import Wakeups

LOOK_SECONDS = 5.0
"""How often to look without a wake-up: another replica's events come without one here."""
HEARTBEAT_LOOKS = 3

router = APIRouter(prefix="/events", tags=["events"])

Watcher = Annotated[Caller, Depends(require(Role.ADMIN, Role.APPROVER, Role.AUDITOR))]


@router.get(
    "",
    operation_id="streamEvents",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events, for as long as the connection and the token last.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 42\nevent: approval.created\ndata: {"subject":"apr_..."}\n\n',
                }
            },
        },
        **problems(401, 403, 422),
    },
)
async def stream_events(
    request: Request,
    caller: Watcher,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """`approval.created`, `.decided`, `.withdrawn`, `.expired`, `session.opened`, `.closed`.

    Approvers get the approvals of their groups; administrators and auditors get everything.
    Without `Last-Event-ID` the stream begins now. `stream.gap` says that events behind the
    given one are no longer kept, so what they told has to be fetched.
    """
    feed: EventFeed = request.app.state.events
    wakeups: Wakeups = request.app.state.wakeups
    if last_event_id is None or last_event_id == "":
        position = await asyncio.to_thread(feed.position)
    elif last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19:
        position = int(last_event_id)
    else:
        raise Invalid("last_event_id_invalid", "Last-Event-ID must be the id of an event")
    everything = bool(caller.roles & {Role.ADMIN, Role.AUDITOR})
    groups = None if everything else caller.principal.groups
    until = caller.principal.expires_at
    return StreamingResponse(
        events(feed, wakeups, position, groups, lambda: bool(until) and now().timestamp() >= until),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def events(
    feed: EventFeed,
    wakeups: Wakeups,
    position: int,
    groups: Set[str] | None,
    over: Callable[[], bool],
    look_seconds: float = LOOK_SECONDS,
) -> AsyncIterator[str]:
    """The stream's text, from behind ``position``, until ``over()`` says that it ends."""
    quiet = 0
    yield f"retry: 2000\n: from {position}\n\n"
    with wakeups.subscribe("approvals", "sessions") as woken:
        while not over():
            batch = await asyncio.to_thread(feed.after, position, groups=groups)
            if batch.gap:
                yield "event: stream.gap\ndata: {}\n\n"
            for event in batch.events:
                yield _text(event)
            if batch.last != position:
                # The id alone moves the client's position past what it may not see.
                position, quiet = batch.last, 0
                yield f"id: {position}\n\n"
                continue
            quiet += 1
            if quiet % HEARTBEAT_LOOKS == 0:
                yield ": still here\n\n"
            await woken.wait(look_seconds)


def _text(event: Event) -> str:
    data = {"subject": event.subject, "at": event.at.isoformat(), **event.data}
    # JSON without a newline is one `data` field, whatever the strings in it hold.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n"
