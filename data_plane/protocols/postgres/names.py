"""The names that SQL itself gives: prepared statements and cursors of PREPARE and DECLARE.

Counterpart: :mod:`.requests`, which lets nothing be judged between such a statement and the
target's answer to it. The names of Parse and Bind are its own business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from data_plane.protocols.postgres.operations import Prepared, Session
from data_plane.sql import NameKind, Statement


def learn(session: Session, statement: Statement, text: bytes, segment: int) -> Callable[[], None]:
    """Take over the names that a statement just sent makes and drops; gives the way back.

    Of several statements in one text only what they drop is taken over: what is left then
    cannot be told, and a name that is not known is refused.
    """
    prepared, cursors = dict(session.prepared), dict(session.cursors)
    single = statement.count == 1
    for use in statement.names:
        name = use.name.encode()
        match use.kind:
            case NameKind.PREPARE:
                session.prepared.pop(name, None)
                if single and session.room_for(name, text):
                    session.prepared[name] = Prepared(
                        name,
                        text,
                        b"",
                        statement,
                        segment,
                        session.epoch,
                        by_sql=True,
                        confirmed=True,
                    )
            case NameKind.DEALLOCATE:
                _drop(session.prepared, name)
            case NameKind.DECLARE:
                session.cursors.pop(use.name, None)
                if single and use.statement is not None:
                    session.cursors[use.name] = use.statement
            case NameKind.CLOSE:
                _drop(session.cursors, use.name)
            case NameKind.EXECUTE | NameKind.FETCH | NameKind.MOVE:
                pass
    if statement.discards:
        session.prepared.clear()
        session.cursors.clear()

    def undo() -> None:
        if single:
            session.prepared = prepared
            session.cursors = cursors

    # A cursor may now stand where a portal stood.
    session.portals.clear()
    return undo


_Name = TypeVar("_Name", str, bytes)
_Value = TypeVar("_Value")


def _drop(known: dict[_Name, _Value], name: _Name) -> None:
    """Forget one name, or all of them where none is given."""
    if name:
        known.pop(name, None)
    else:
        known.clear()
