"""Masking where values stand in the protocol, byte for byte."""

from __future__ import annotations

import struct

import pytest

from data_plane.masking import Masker
from data_plane.protocols.postgres.catalogue import Knowledge, Masks, Relation
from data_plane.protocols.postgres.frames import FrameError
from data_plane.protocols.postgres.rows import (
    CopyObjection,
    Field,
    plan_copy,
    plan_rows,
    read_fields,
    with_formats,
)
from data_plane.sql import Catalogue, CopyDirection, CopyFormat, CopyShape, Statement, classify
from protos.vocabulary import MaskingRule, Risk, Transform
from tests.conformance.scenarios.postgres import fields, row

CARD = b"4111111111111111"
FOUND = Masker([MaskingRule("f", Transform.REDACT, detectors=("card", "email"))], b"")
NULLED = Masker([MaskingRule("n", Transform.NULL, columns=("public.t.a",))], b"")
EMPTY = Knowledge(Catalogue({}), {}, (), frozenset())
SELECT = Statement("select", Risk.READ)


def known(*, definition: str = "") -> Knowledge:
    return Knowledge(
        Catalogue({"public": frozenset({"t", "v"})}),
        {
            20000: Relation("public", "t", {1: "a", 3: "b"}, "", {1: 25, 3: 25}),
            20001: Relation("public", "v", {1: "x", 2: "y"}, definition, {1: 25, 2: 25}),
        },
        ((999, 20000),),
        frozenset({20500}),
    )


def masked(kind: int, form: int, value: bytes) -> bytes | None:
    """What the detectors leave of a cell."""
    plan = plan_rows((Field(0, 0, kind, form),), SELECT, FOUND, Masks(EMPTY, FOUND, ()))
    if plan is None:
        return value
    data = row(value)
    shown = plan.mask(data, 0, len(data), FOUND)
    shown = data if shown is None else shown
    assert struct.unpack_from("!i", shown, 1)[0] == len(shown) - 1
    (length,) = struct.unpack_from("!i", shown, 7)
    return None if length < 0 else shown[11 : 11 + length]


NUMERIC = struct.pack("!hhhh4h", 4, 3, 0, 0, 4111, 1111, 1111, 1111)


@pytest.mark.parametrize(
    ("kind", "form", "value", "left"),
    [
        (25, 0, b"card " + CARD, b"card ****"),
        (25, 1, b"card " + CARD, b"card ****"),
        (142, 1, b"<a>" + CARD + b"</a>", b"<a>****</a>"),
        (20, 0, CARD, None),
        (20, 1, int(CARD).to_bytes(8, "big"), None),
        (20, 1, b"\0" * 8, b"\0" * 8),
        (1700, 0, CARD, None),
        (1700, 1, NUMERIC, None),
        (1700, 1, struct.pack("!hhhhh", 1, 0, 0, 0, 7), struct.pack("!hhhhh", 1, 0, 0, 0, 7)),
        (1700, 1, b"bad", b"bad"),
        (1700, 1, struct.pack("!hhhh", 9, 0, 0, 0), struct.pack("!hhhh", 9, 0, 0, 0)),
        (17, 0, b"\\x" + CARD.hex().encode(), None),
        (17, 0, b"\\xzz", b"\\xzz"),
        (17, 0, b"\\\\plain", b"\\\\plain"),
        (17, 1, b"raw " + CARD, None),
        (114, 0, b'{"a": "' + CARD + b'"}', b'{"a": "****"}'),
        (3802, 0, b'{"a": "' + CARD + b'"}', b'{"a": "****"}'),
        (3802, 1, b'\1{"a": "' + CARD + b'"}', b'\1{"a": "****"}'),
        (3802, 1, b'\1{"a": 1}', b'\1{"a": 1}'),
        (3802, 1, b"\2" + CARD, None),
        (1009, 0, b"{" + CARD + b"}", None),
        (1009, 0, b"{clean}", b"{clean}"),
        (23, 0, b"41", b"41"),
    ],
)
def test_a_detector_finds_a_value_in_every_type_and_format(
    kind: int, form: int, value: bytes, left: bytes | None
) -> None:
    assert masked(kind, form, value) == left


@pytest.mark.parametrize(
    "data",
    [
        row(b"a", b"b"),
        row(b"a")[:-1],
        row(b"a") + b"x",
        row() + b"",
        b"D\0\0\0\x0a\0\1\0\0\0\x09",
        b"D\0\0\0\x08\0\1\0\0",
    ],
)
def test_a_row_that_does_not_fit_its_description_is_an_error(data: bytes) -> None:
    plan = plan_rows((Field(0, 0, 25, 0),), SELECT, FOUND, Masks(EMPTY, FOUND, ()))
    assert plan is not None
    with pytest.raises(FrameError):
        plan.mask(data, 0, len(data), FOUND)


def test_null_stays_null_and_other_cells_stay() -> None:
    masks = Masks(known(), NULLED, ("public",))
    plan = plan_rows((Field(20000, 1, 25, 0), Field(20000, 3, 25, 0)), SELECT, NULLED, masks)
    assert plan is not None
    data = row(b"secret", b"plain")
    assert plan.mask(data, 0, len(data), NULLED) == row(None, b"plain")
    data = row(None, b"plain")
    assert plan.mask(data, 0, len(data), NULLED) is None


@pytest.mark.parametrize(
    ("relation", "attribute", "is_masked"),
    [
        (20000, 1, True),
        (20000, 3, False),
        (20000, 0, True),
        (20000, -1, False),
        (20000, 9, True),
        (1259, 1, False),
        (30000, 1, True),
        (20001, 0, False),
    ],
)
def test_a_column_is_masked_by_its_number_and_in_doubt(
    relation: int, attribute: int, is_masked: bool
) -> None:
    masks = Masks(known(definition="SELECT b AS x, 1 AS y FROM t"), NULLED, ("public",))
    assert (masks.column(relation, attribute) is not None) == is_masked


@pytest.mark.parametrize(
    ("definition", "masked_columns"),
    [
        ("SELECT a AS x, b AS y FROM t", {1}),
        ("SELECT b AS x, upper(a) AS y FROM t", {2}),
        ("SELECT b AS x, 1 AS y FROM t WHERE a = 'q'", set()),
        ("SELECT strange_function(b) AS x, 1 AS y FROM t", {1, 2}),
        ("no sql at all", {1, 2}),
        ("SELECT a AS x, b AS y, 3 AS z FROM t", {1, 2}),
    ],
)
def test_a_view_is_masked_where_its_columns_come_from_masked_ones(
    definition: str, masked_columns: set[int]
) -> None:
    masks = Masks(known(definition=definition), NULLED, ("public",))
    assert {n for n in (1, 2) if masks.column(20001, n)} == masked_columns
    if masked_columns == {1} and "AS x" in definition:
        assert masks.derived(frozenset({"x"})) is not None


def test_nothing_is_masked_without_a_rule_for_columns() -> None:
    masks = Masks(known(), FOUND, ("public",))
    assert not masks.active
    assert masks.column(30000, 1) is None
    assert masks.derived(frozenset({"a"})) is None
    plain = Masker([], b"")
    assert plan_rows((Field(1, 1, 25, 0),), SELECT, plain, Masks(EMPTY, plain, ())) is None


def test_result_formats_follow_the_bind() -> None:
    two = (Field(0, 0, 25, 0), Field(0, 0, 23, 0))
    assert [f.format for f in with_formats(two, (1,))] == [1, 1]
    assert [f.format for f in with_formats(two, ())] == [0, 0]
    assert [f.format for f in with_formats(two, (0, 1))] == [0, 1]
    with pytest.raises(FrameError):
        with_formats(two, (1, 1, 1))


def test_a_description_is_read_whole() -> None:
    body = fields(("a", 20000, 3, 25))[5:]
    assert read_fields(body) == (Field(20000, 3, 25, 0),)
    for broken in (body[:-1], body + b"x", b"\xff\xff", b"\0\1abc"):
        with pytest.raises(FrameError):
            read_fields(broken)


def copy_line(line: bytes, **shape: object) -> bytes:
    form = CopyShape(CopyDirection.OUT, "public.t", **shape)  # type: ignore[arg-type]
    plan = plan_copy(form, SELECT, NULLED, Masks(known(), NULLED, ("public",)))
    assert plan is not None
    return plan.line(line, NULLED)


def test_a_line_of_copy_is_cut_where_the_server_cuts_it() -> None:
    assert copy_line(b"secret\tplain") == b"\\N\tplain"
    assert copy_line(b"sec\\tret\tpl\\\\ain") == b"\\N\tpl\\\\ain"
    assert copy_line(b"\\N\tplain") == b"\\N\tplain"
    assert copy_line(b"a|b", delimiter="|", null="NULL") == b"NULL|b"
    assert copy_line(b"b\ta", columns=("b", "a")) == b"b\t\\N"
    with pytest.raises(FrameError):
        copy_line(b"one cell")


def test_a_masked_cell_of_copy_is_escaped_again() -> None:
    rule = MaskingRule("c", Transform.CONSTANT, columns=("public.t.a",), constant="x\ty\\z\n")
    masker = Masker([rule, MaskingRule("f", Transform.REDACT, detectors=("email",))], b"")
    shape = CopyShape(CopyDirection.OUT, "public.t")
    plan = plan_copy(shape, SELECT, masker, Masks(known(), masker, ("public",)))
    assert plan is not None
    assert plan.line(b"a\tb@example.com", masker) == b"x\\ty\\\\z\\n\t****"


def test_a_partly_shown_cell_of_copy_is_read_before_it_is_masked() -> None:
    rule = MaskingRule("c", Transform.PARTIAL, columns=("public.t.a",), keep=2)
    masker = Masker([rule], b"")
    shape = CopyShape(CopyDirection.OUT, "public.t")
    plan = plan_copy(shape, SELECT, masker, Masks(known(), masker, ("public",)))
    assert plan is not None
    assert plan.line(b"abcd\\\\\\n12\tb", masker) == b"****12\tb"


@pytest.mark.parametrize(
    "shape",
    [
        CopyShape(CopyDirection.OUT, "public.t", format=CopyFormat.CSV),
        CopyShape(CopyDirection.OUT, "public.t", format=CopyFormat.BINARY),
        CopyShape(CopyDirection.OUT, "public.t", understood=False),
        CopyShape(CopyDirection.OUT, "public.unknown"),
        CopyShape(CopyDirection.OUT, "public.t", columns=("nowhere",)),
    ],
)
def test_a_copy_that_cannot_be_masked_is_objected_to(shape: CopyShape) -> None:
    with pytest.raises(CopyObjection):
        plan_copy(shape, SELECT, NULLED, Masks(known(), NULLED, ("public",)))


def test_a_copy_of_a_query_goes_by_its_outputs() -> None:
    masks = Masks(known(), NULLED, ("public",))
    star = classify("COPY (SELECT * FROM t) TO STDOUT")
    assert star.copy is not None
    with pytest.raises(CopyObjection):
        plan_copy(star.copy, star, NULLED, masks)
    clean = classify("COPY (SELECT b FROM t) TO STDOUT (FORMAT csv)")
    assert clean.copy is not None
    assert plan_copy(clean.copy, clean, NULLED, masks) is None
    binary = classify("COPY (SELECT b FROM t) TO STDOUT (FORMAT binary)")
    assert binary.copy is not None
    with pytest.raises(CopyObjection):
        plan_copy(binary.copy, binary, FOUND, Masks(known(), FOUND, ()))
