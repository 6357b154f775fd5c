"""What is known of a text of SQL before it runs: the values that classification returns.

Counterparts: :mod:`data_plane.sql.classify` makes them, ``data_plane.protocols.postgres``
turns them into operations, enforces them and keeps the session's state by them. Nothing here
knows the wire protocol, a policy or a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from protos.vocabulary import Resource, Risk

EVERYTHING = frozenset({"*"})
"""The column set that says: any column of the row, or all of them."""


def _no_facts() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SessionState:
    """What of a session changes the meaning of a text.

    ``search_path`` is the list the server resolves unqualified names by, ``pg_catalog``
    implied first; ``"$user"`` may stand in it literally. ``relations`` maps a schema to its
    relation names where the caller knows the target's catalogue; ``None`` means it doesn't,
    and unqualified names are then taken to lie in the first schema of the path.
    ``encoding`` is how the server reads the statement's bytes: give ``"UTF8"`` only where
    both the client's and the server's encoding are UTF-8. ``standard_strings`` is the
    server's ``standard_conforming_strings``. ``default_path`` is the search path right after
    login, which RESET goes back to.

    Hashable by value save for ``relations``, which is compared by identity: pass the same
    object as long as the catalogue is the same.
    """

    search_path: tuple[str, ...] = ("public",)
    relations: Catalogue | None = None
    encoding: str = "UTF8"
    standard_strings: bool = True
    default_path: tuple[str, ...] = ("public",)


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Which relations a database has: schema -> names. Compared by identity."""

    schemas: Mapping[str, frozenset[str]]

    def holds(self, schema: str, name: str) -> bool:
        """Whether ``schema.name`` is known to exist."""
        return name in self.schemas.get(schema, ())


class StepKind(StrEnum):
    """What a statement does to the transaction, in the order of its text."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    PREPARE = "prepare_transaction"
    COMMIT_PREPARED = "commit_prepared"
    ROLLBACK_PREPARED = "rollback_prepared"


@dataclass(frozen=True, slots=True)
class TransactionStep:
    """One transaction command; ``name`` is the savepoint's or the prepared transaction's.

    ``chained`` says ``AND CHAIN``: a new transaction begins at once.
    """

    kind: StepKind
    name: str = ""
    chained: bool = False


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A session setting that is changed if the statement succeeds, to be undone by a rollback.

    ``values`` are the literals given; ``None`` means back to the default, or a value that
    can't be told from the text (then ``known`` is false). ``local`` lasts until the end of the
    transaction only. ``name`` is lower case; ``role`` and ``session_authorization`` are among
    the names, ``all`` stands for RESET ALL.
    """

    name: str
    values: tuple[str, ...] | None
    local: bool = False
    known: bool = True


class NameKind(StrEnum):
    """What is done with a name that lives in the session."""

    PREPARE = "prepare"
    EXECUTE = "execute"
    DEALLOCATE = "deallocate"
    DECLARE = "declare"
    FETCH = "fetch"
    MOVE = "move"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class NameUse:
    """A prepared statement or cursor that the statement makes, uses or drops by SQL.

    ``statement`` is what PREPARE or DECLARE puts under the name, judged. An empty ``name``
    with DEALLOCATE or CLOSE means all of them.
    """

    kind: NameKind
    name: str
    statement: Statement | None = None


class CopyDirection(StrEnum):
    """Which way the rows of a COPY on the client's connection go."""

    OUT = "out"
    IN = "in"


class CopyFormat(StrEnum):
    """The forms of COPY data."""

    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class CopyShape:
    """How to read the rows of COPY ... TO STDOUT or FROM STDIN.

    ``relation`` is ``schema.name``, empty where a query is copied or the name may be that of
    several tables; the columns are then in the statement's ``outputs``. ``columns`` are those
    listed, empty for all of them in the table's order. ``delimiter``, ``null``, ``quote`` and
    ``escape`` are as the server will use them, defaults included. ``understood`` is false where
    an option isn't known here: the rows can't be read safely then.
    """

    direction: CopyDirection
    relation: str
    columns: tuple[str, ...] = ()
    format: CopyFormat = CopyFormat.TEXT
    header: bool = False
    delimiter: str = "\t"
    null: str = "\\N"
    quote: str = '"'
    escape: str = '"'
    encoding: str = ""
    understood: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a result, or, with ``star``, a run of them whose length isn't known.

    ``columns`` are the names of all source columns that its value may derive from; ``"*"``
    means any. ``bare`` says that it is a plain reference to a table's column, which the
    table oid and attribute number in the server's RowDescription identify; where those are
    zero all the same, or there are none (COPY), go by ``columns``.
    """

    name: str | None
    columns: frozenset[str]
    bare: bool = False
    star: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A judged text: one statement, or all those of a multi-statement string together.

    ``risk`` is that of the worst effect. ``action`` is the statement's verb in lower case,
    ``multiple`` where a text has several different ones, ``empty`` or ``unknown``.
    ``outputs`` are the columns of the only statement that returns rows; ``None`` means that
    they can't be told: treat every computed column as derived from anything. An empty tuple
    means that no rows are returned.

    ``columns`` holds every column name that the text mentions (``"*"`` for a star or a whole
    row), ``predicates`` the source columns used to choose, order or group rows rather than
    to show them, and ``stored`` the source columns whose values the statement puts into a
    table, a sequence or a message.

    ``timeline`` has the transaction's steps and the changes of settings in their order; they
    hold only once the server has confirmed the statement. ``creates_relations``: names may resolve
    differently afterwards; ``discards``: the session is as after login (DISCARD ALL).

    EXECUTE, FETCH and MOVE mean whatever stands under a name of the session, also one given
    by the extended protocol's Parse and Bind. They are UNKNOWN, and ``unresolved`` is the
    risk of the rest, until :func:`data_plane.sql.classify.resolve` is given that statement.
    """

    action: str
    risk: Risk
    resources: tuple[Resource, ...] = ()
    facts: Mapping[str, str] = field(default_factory=_no_facts)
    outputs: tuple[Output, ...] | None = ()
    columns: frozenset[str] = frozenset()
    predicates: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    timeline: tuple[TransactionStep | SettingChange, ...] = ()
    names: tuple[NameUse, ...] = ()
    copy: CopyShape | None = None
    count: int = 1
    creates_relations: bool = False
    discards: bool = False
    unresolved: Risk | None = None

    @property
    def steps(self) -> tuple[TransactionStep, ...]:
        """What of the timeline steers the transaction."""
        return tuple(one for one in self.timeline if isinstance(one, TransactionStep))

    @property
    def settings(self) -> tuple[SettingChange, ...]:
        """What of the timeline changes settings."""
        return tuple(one for one in self.timeline if isinstance(one, SettingChange))


def align(outputs: Sequence[Output] | None, width: int) -> tuple[Output, ...] | None:
    """One output for each of the ``width`` columns the server announced, or ``None``.

    A single star takes up what the others leave. Where several stars make the positions
    ambiguous, every position that could be either gets the columns of all. ``None`` means
    that the two can't be reconciled: treat every column as derived from anything.
    """
    if outputs is None:
        return None
    stars = [index for index, output in enumerate(outputs) if output.star]
    if not stars:
        return tuple(outputs) if len(outputs) == width else None
    first, last = stars[0], stars[-1]
    tail = len(outputs) - last - 1
    run = width - first - tail
    if run < last - first - (len(stars) - 1):
        return None
    middle = outputs[first : last + 1]
    filler = Output(
        None,
        frozenset().union(*(output.columns for output in middle)),
        bare=all(output.bare for output in middle),
    )
    return (*outputs[:first], *(filler,) * run, *outputs[last + 1 :])
