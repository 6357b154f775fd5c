"""Judges texts of PostgreSQL SQL by what they would do, before they run.

Counterpart: ``data_plane.protocols.postgres``. Pure: no I/O, clock or policy.
"""

from data_plane.sql.classify import DEFAULT, classify, resolve
from data_plane.sql.findings import qualified_name
from data_plane.sql.settings import plain_path
from data_plane.sql.statement import (
    EVERYTHING,
    Catalogue,
    CopyDirection,
    CopyFormat,
    CopyShape,
    NameKind,
    NameUse,
    Output,
    SessionState,
    SettingChange,
    Statement,
    StepKind,
    TransactionStep,
    align,
)

__all__ = [
    "DEFAULT",
    "EVERYTHING",
    "Catalogue",
    "CopyDirection",
    "CopyFormat",
    "CopyShape",
    "NameKind",
    "NameUse",
    "Output",
    "SessionState",
    "SettingChange",
    "Statement",
    "StepKind",
    "TransactionStep",
    "align",
    "classify",
    "plain_path",
    "qualified_name",
    "resolve",
]
