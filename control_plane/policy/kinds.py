"""Every kind of document that there is, and who warns about them, for the application to use."""

from __future__ import annotations

from control_plane.documents.changes import Adviser
from control_plane.documents.validation import Kind
from control_plane.policy.schemas import MASKING, POLICY
from control_plane.policy.service import unmatched_selectors
from control_plane.relays.schemas import RELAY
from control_plane.relays.service import unspoken_protocols
from control_plane.targets.schemas import TARGET
from control_plane.targets.service import unprotected

KINDS: tuple[Kind, ...] = (TARGET, POLICY, MASKING, RELAY)
ADVISERS: tuple[Adviser, ...] = (unmatched_selectors, unspoken_protocols, unprotected)
"""Without :func:`control_plane.targets.service.missing_credentials`, which needs a look-up."""
