"""What docs/masking.md shows is what the code does."""

import re
from pathlib import Path

import pytest

from data_plane.masking import Masker
from protos.vocabulary import DETECTORS, MaskingRule, Transform

PAGE = (Path(__file__).parents[3] / "docs" / "masking.md").read_text(encoding="utf-8")
KEY = b"0123456789abcdef"


def table(heading: str) -> list[list[str]]:
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


TRANSFORMS = table("What each transform leaves")


@pytest.mark.parametrize("row", TRANSFORMS[2:], ids=lambda row: row[0])
def test_the_table_of_transforms_shows_what_the_code_leaves(row: list[str]) -> None:
    name, *constant = re.findall(r"`([^`]+)`", row[0])
    rule = MaskingRule("doc", Transform(name), columns=("*",), constant="".join(constant))
    mask = Masker([rule], KEY).column("public", "people", "any")
    assert mask is not None
    for value, shown in zip(TRANSFORMS[0][1:], row[1:], strict=True):
        left = mask.apply(value.strip("`").encode())
        assert shown == ("NULL" if left is None else f"`{left.decode()}`")


def test_the_table_of_transforms_has_all_of_them() -> None:
    assert {row[0].split("`")[1] for row in TRANSFORMS[2:]} == set(Transform)


def test_the_table_of_detectors_has_all_of_them() -> None:
    named = [name for row in table("Detectors")[2:] for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(DETECTORS)


def test_strength_is_told_as_it_is() -> None:
    order = re.search(r"The strongest, in this order: ([^;]+);", PAGE)
    assert order is not None
    assert re.findall(r"`(\w+)`", order[1]) == [str(transform) for transform in Transform][::-1]
