"""REST: recordings are downloaded, read an entry at a time, and verified."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from control_plane.identity.access import Caller, Role, require
from control_plane.problems import problems
from control_plane.recordings.schemas import EntriesView, EntryView, VerificationView
from control_plane.recordings.service import RecordingService

router = APIRouter(prefix="/sessions", tags=["recordings"])
_MAX_PAGE_BYTES = 8 << 20


def _service(request: Request) -> RecordingService:
    service: RecordingService = request.app.state.recordings
    return service


Service = Annotated[RecordingService, Depends(_service)]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]
SessionId = Annotated[
    str, Path(pattern="^[0-9a-f]{32}$", examples=["0b6f2f0c3d1e4c5f8a9b7c6d5e4f3a2b"])
]


@router.get(
    "/{id}/recording",
    operation_id="downloadRecording",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The recording's bytes, as `jitgate verify --file` reads them.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        },
        **problems(401, 403, 404, 422),
    },
)
def download_recording(id: SessionId, service: Service, _caller: Reader) -> StreamingResponse:
    """The whole recording as it is kept; what it holds is already masked."""
    length, content = service.content(id)
    return StreamingResponse(
        content,
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(length),
            "Content-Disposition": f'attachment; filename="{id}.jgr"',
            "Cache-Control": "no-store",
        },
    )


@router.get(
    "/{id}/entries",
    operation_id="listRecordingEntries",
    responses=problems(401, 403, 404, 422),
)
def list_entries(
    id: SessionId,
    service: Service,
    _caller: Reader,
    after: Annotated[
        int, Query(ge=-1, lt=2**62, description="The sequence behind which to begin.")
    ] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> EntriesView:
    """Entries in order, at most 8 MiB of them a page."""
    entries = service.entries(id, after, limit + 1, _MAX_PAGE_BYTES)
    _, row = service.find(id)
    shown = entries[:limit]
    more = bool(shown) and shown[-1].sequence + 1 < row.next_sequence
    return EntriesView(
        items=[EntryView.of(entry) for entry in shown],
        next=shown[-1].sequence if more else None,
    )


@router.get(
    "/{id}/verification",
    operation_id="verifyRecording",
    responses=problems(401, 403, 404, 422),
)
def verify_recording(id: SessionId, service: Service, _caller: Reader) -> VerificationView:
    """Read the recording again and compare it with what was received."""
    return VerificationView.of(service.verify(id))
