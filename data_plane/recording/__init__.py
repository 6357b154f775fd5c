"""Recording: sequence, hash chain, spool, resumable upload.

No durable record, no forwarding: :class:`Recorder` returns only once the entry is in the
spool, and :class:`Spool` says so when it can't be.
"""

from data_plane.recording.recorder import Recorder
from data_plane.recording.spool import RecordingFailed, Spool

__all__ = ["Recorder", "RecordingFailed", "Spool"]
