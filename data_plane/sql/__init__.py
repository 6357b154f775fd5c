"""Judges texts of PostgreSQL SQL by what they would do, before they run.

Counterpart: ``data_plane.protocols.postgres``. Pure: no I/O, clock or policy.
"""

from data_plane.sql.classify import DEFAULT, classify, resolve
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
    "resolve",
]
