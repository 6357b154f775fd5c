"""The masking rules of a session, compiled: which column and which words get which mask.

Counterparts: :mod:`data_plane.masking.transforms` has the masks,
:mod:`data_plane.masking.detectors` what is looked for,
:mod:`data_plane.masking.disguise` the other spellings in which it may be written.

Theory of operation. One RE2 set holds a pattern for every detector in use and one for the
disguises. None of them has an edge (``^``, ``$``, ``\\b``), so a set that is silent over a
chunk is silent over every value inside it: :meth:`Masker.suspicious` is that one pass. A
value is then read in up to three views (as it stands, with its disguises folded, and with
its escapes resolved as well), each view asks the set again, and only the detectors that the
set names search it. What they find is brought back to places in the value, and overlapping
finds become one, which gets the strongest of their masks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from data_plane.masking.detectors import DETECTORS
from data_plane.masking.disguise import DISGUISES, View, views
from data_plane.masking.patterns import PatternSet, compiled
from data_plane.masking.transforms import REDACTED, ColumnMask, mask_of, rank
from protos.policy import pattern_matches
from protos.vocabulary import MaskingRule, Transform

# RFC 8259 sections 6 and 7, as far as needed to tell the tokens of valid JSON apart.
_JSON_TOKEN = compiled(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+\-]*')

# How many candidates are looked at in one value: at tens of microseconds each, about a second.
_EFFORT = 50_000


@dataclass(frozen=True, slots=True)
class _Find:
    """A span of a value that must not be seen, and ``plain``, what it spells."""

    start: int
    end: int
    mask: ColumnMask
    plain: bytes = field(repr=False)


class Masker:
    """The masking rules of one session, compiled once; sessions with equal rules share it.

    ``key`` makes the pseudonyms: under one key, equal values get equal ones. It is in no
    ``repr``. Nothing of a masker changes after construction, and no value it is given makes
    it raise. The order of ``rules`` means nothing. Raises ValueError for a rule that cannot
    be obeyed (an unknown detector, neither columns nor detectors or both, a negative
    ``keep``, a pseudonym with a key of less than 16 bytes).

    ``active``: there is any rule. ``detects``: there is one with detectors.
    """

    __slots__ = ("_columns", "_hints", "_used", "active", "detects")

    def __init__(self, rules: Sequence[MaskingRule], key: bytes) -> None:
        columns: list[tuple[str, ColumnMask]] = []
        used: dict[str, ColumnMask] = {}
        for rule in rules:
            if bool(rule.columns) == bool(rule.detectors):
                raise ValueError(f"masking rule {rule.name!r}: give either columns or detectors")
            mask = mask_of(rule, key)
            columns.extend((pattern, mask) for pattern in rule.columns)
            for name in rule.detectors:
                if name not in DETECTORS:
                    known = ", ".join(DETECTORS)
                    raise ValueError(
                        f"masking rule {rule.name!r}: no detector {name!r}; there are {known}"
                    )
                used[name] = max(used.get(name, mask), mask, key=rank)
        columns.sort(key=lambda column: rank(column[1]), reverse=True)
        self._columns = tuple((pattern, _last_names(pattern), mask) for pattern, mask in columns)
        self._used = tuple((DETECTORS[name], used[name]) for name in DETECTORS if name in used)
        self._hints = PatternSet((*(detector.hint for detector, _ in self._used), DISGUISES))
        self.active = bool(rules)
        self.detects = bool(used)

    def __repr__(self) -> str:
        return f"Masker({len(self._columns)} columns, {len(self._used)} detectors)"

    def column(self, schema: str, table: str, column: str) -> ColumnMask | None:
        """The mask of this column, by the names that the catalogue has: the strongest of all
        rules whose pattern matches. None: no rule speaks of it."""
        name = f"{schema}.{table}.{column}"
        return next(
            (mask for pattern, _, mask in self._columns if pattern_matches(pattern, name)), None
        )

    def columns_named(self, name: str) -> bool:
        """Whether a column of this name is masked in any table. Rather true too often: where
        a pattern has fewer than two dots, its wildcards may have run over one."""
        return self._named(name) is not None

    def derived(self, columns: frozenset[str]) -> ColumnMask | None:
        """The mask of a computed value that any columns of these names may have gone into.

        "*" is all columns of a row. As a part of a computed value can be more than a part of
        the column (``reverse``, ``substr``), the mask is REDACT, or NULL where the column's
        is. Rather given too often, as with :meth:`columns_named`.
        """
        masks = [mask for name in columns if (mask := self._named(name)) is not None]
        if not masks:
            return None
        mask = max(masks, key=rank)
        return (
            mask if mask.transform is Transform.NULL else replace(mask, transform=Transform.REDACT)
        )

    def suspicious(self, chunk: bytes) -> bool:
        """False where :meth:`text` would change no value that lies whole within ``chunk``,
        whatever else is in there. One linear pass."""
        return self.detects and bool(self._hints.matching(chunk))

    def text(self, value: bytes) -> bytes:
        """``value`` with everything masked that the detectors find; itself if they find nothing.

        ``value`` is UTF-8; bytes that are not are passed on and stepped over. What NULL is to
        be put for is left out, as part of a text cannot be NULL. A value with more than
        50,000 places to look at is redacted whole, which bounds the time for any value.
        """
        finds = self._finds(value) if self.detects else []
        if finds is None:
            return REDACTED
        if not finds:
            return value
        parts: list[bytes] = []
        done = 0
        for find in _merged(value, finds):
            parts += (value[done : find.start], find.mask.apply(find.plain) or b"")
            done = find.end
        parts.append(value[done:])
        return b"".join(parts)

    def json(self, value: bytes) -> bytes:
        """As :meth:`text`, for a value that is JSON and stays so.

        Each string, keys included, and each number is a text of its own, read as JSON reads
        it. A masked number becomes a string. What nothing was found in stays byte for byte.
        What is no JSON is masked as a text; what takes too much effort becomes one string.
        """
        if not self.suspicious(value):
            return value
        if self._finds(value) is None:
            return json.dumps(REDACTED.decode()).encode()
        try:
            value.decode()
        except UnicodeDecodeError:
            return self.text(value)
        parts: list[bytes] = []
        done = 0
        for match in _JSON_TOKEN.finditer(value):
            start, end = match.span()
            # Between tokens there is nothing to mask, unless it is no JSON after all.
            parts += (self.text(value[done:start]), self._json_token(match.group()))
            done = end
        parts.append(self.text(value[done:]))
        masked = b"".join(parts)
        return value if masked == value else masked

    def _json_token(self, token: bytes) -> bytes:
        plain = token
        if token.startswith(b'"'):
            try:
                plain = json.loads(token, strict=False).encode(errors="surrogatepass")
            except ValueError:  # no JSON after all
                plain = token[1:-1]
        masked = self.text(plain)
        if masked is plain:
            return token
        return json.dumps(masked.decode(errors="replace")).encode()

    def _named(self, name: str) -> ColumnMask | None:
        last = name.rpartition(".")[2]
        for _, names, mask in self._columns:
            if name == "*" or any(pattern_matches(each, last) for each in names):
                return mask
        return None

    def _finds(self, value: bytes) -> list[_Find] | None:
        """What is found in ``value``, unordered; None where it would take too much effort."""
        hinted = self._hints.matching(value)
        disguised = len(self._used)  # the place of DISGUISES in the set, after the detectors
        readings = views(value, _EFFORT) if disguised in hinted else ()
        if readings is None:
            return None
        found: list[_Find] = []
        effort = 0
        for view in (None, *readings):
            text = value if view is None else view.text
            for find in self._search(text, self._hints.matching(text) if view else hinted):
                effort += 1
                if effort > _EFFORT:
                    return None
                if find is not None:
                    found.append(find if view is None else _placed(find, view))
        return found

    def _search(self, text: bytes, hinted: Sequence[int]) -> Iterator[_Find | None]:
        for index in hinted:
            if index < len(self._used):
                detector, mask = self._used[index]
                for span in detector.finds(text):
                    yield span and _Find(*span, mask, text[slice(*span)])


def _placed(find: _Find, view: View) -> _Find:
    start, end = view.origin(find.start, find.end)
    return replace(find, start=start, end=end)


def _merged(value: bytes, finds: list[_Find]) -> Iterator[_Find]:
    """The finds from left to right, those that overlap as one, with their strongest mask."""
    finds.sort(key=lambda find: (find.start, -find.end))
    current = finds[0]
    for find in finds[1:]:
        if find.start >= current.end:
            yield current
            current = find
            continue
        mask = max(current.mask, find.mask, key=rank)
        if find.end <= current.end:
            current = replace(current, mask=mask)
        else:
            plain = value[current.start : find.end]
            current = _Find(current.start, find.end, mask, plain)
    yield current


def _last_names(pattern: str) -> tuple[str, ...]:
    """Patterns that together match every column name in what ``pattern`` matches.

    ``public.orders.note*`` gives ``note*``; but in ``public.o*e`` the wildcard may have run
    over the dot between table and column, so beside ``o*e`` it gives ``*e``.
    """
    if "[" in pattern:  # a set may hold the dot, or be no set at all
        return ("*",)
    before, _, last = pattern.rpartition(".")
    names = {last}
    if "." not in before:
        names.update(last[at:] for at, character in enumerate(last) if character == "*")
        names.update(last[at + 1 :] for at, character in enumerate(last) if character == "?")
    return tuple(sorted(names))
