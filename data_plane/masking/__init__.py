"""What of an answer an agent may see: rules compiled into masks over columns and free text.

Counterparts: :mod:`protos.vocabulary` defines the rules; a protocol under
:mod:`data_plane.protocols` finds the values in its wire format, asks a :class:`Masker` what
to do with each, and puts the result back into its framing. This package is pure: it knows no
protocol, no session, no clock and does no I/O. It does not decide whether a statement may
run; where a predicate on a masked column is itself a leak, that is for policy.
"""

from data_plane.masking.masker import Masker
from data_plane.masking.transforms import REDACTED, ColumnMask

__all__ = ["REDACTED", "ColumnMask", "Masker"]
