"""Every domain's models, imported so that :data:`metadata` is complete; nothing else."""

from __future__ import annotations

from control_plane.approvals import models as approvals
from control_plane.audit import models as audit
from control_plane.credentials import models as credentials
from control_plane.database import Base
from control_plane.documents import models as documents
from control_plane.recordings import models as recordings
from control_plane.relays import models as relays
from control_plane.sessions import models as sessions

metadata = Base.metadata

__all__ = [
    "approvals",
    "audit",
    "credentials",
    "documents",
    "metadata",
    "recordings",
    "relays",
    "sessions",
]
