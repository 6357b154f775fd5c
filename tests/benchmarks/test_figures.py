"""The arithmetic of the benchmark. Nothing here is timed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.figures import (
    Figure,
    Met,
    at_least,
    at_most,
    document,
    number,
    percentile,
    ratio,
    ratio_table,
    spread,
    table,
)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert ratio([50, 10, 90], [100, 100, 100]) == 0.5


def test_a_round_in_which_all_was_slow_leaves_the_ratio_as_it_is() -> None:
    assert ratio([50, 5, 50], [100, 10, 100]) == 0.5


@pytest.mark.parametrize(("of", "to"), [([1.0], [1.0, 2.0]), ([], [])])
def test_a_ratio_of_different_rounds_is_none(of: list[float], to: list[float]) -> None:
    with pytest.raises(ValueError, match="same rounds"):
        ratio(of, to)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0, 0.2, 0.5, 0.99, 1)] == [1, 1, 3, 5, 5]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_not_exceeded_by_its_share_of_the_values(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_the_spread_is_in_parts_of_the_median() -> None:
    assert spread([9, 10, 12]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("value", "met"), [(0.74, Met.NO), (0.75, Met.YES), (0.94, Met.YES), (0.95, Met.STRETCH)]
)
def test_more_is_better_where_at_least_is_asked(value: float, met: Met) -> None:
    assert Figure("what", value, "", at_least(0.75, 0.95)).met is met


@pytest.mark.parametrize(
    ("value", "met"), [(1.61, Met.NO), (1.6, Met.YES), (1.26, Met.YES), (1.25, Met.STRETCH)]
)
def test_less_is_better_where_at_most_is_asked(value: float, met: Met) -> None:
    assert Figure("what", value, "", at_most(1.6, 1.25)).met is met


def test_what_was_not_measured_meets_nothing() -> None:
    figure = Figure("what", None, "", at_least(1, 2), "no such thing yet")
    assert figure.cells() == ("what", "no such thing yet", "≥ 1 (2)", "not measured")


def test_what_has_no_target_is_neither_met_nor_missed() -> None:
    assert Figure("what", 1.5, " ms").cells() == ("what", "1.50 ms", "", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (3, "3"), (0.02, "0.02"), (0.756, "0.76"), (12.34, "12.3"), (31540.2, "31540")],
)
def test_numbers_are_shown_as_precisely_as_they_are_known(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_table_is_aligned_markdown() -> None:
    assert table(("what", "n"), [("a", "1"), ("longer", "22")]).splitlines() == [
        "| what   | n  |",
        "|--------|----|",
        "| a      | 1  |",
        "| longer | 22 |",
    ]


def test_the_ratio_table_has_the_four_columns() -> None:
    lines = ratio_table([Figure("TPS", 0.5, "", at_least(0.75, 0.95))]).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "what",
        "measured",
        "target (stretch)",
        "met?",
    ]
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "TPS",
        "0.50",
        "≥ 0.75 (0.95)",
        "no",
    ]


def test_the_json_has_settings_figures_and_every_sample() -> None:
    figure = Figure("TPS", 0.5, "", at_least(0.75, 0.95), "remark")
    read = json.loads(document({"rounds": 3}, [figure], [{"kind": "bulk", "seconds": 1.5}]))
    assert read == {
        "format": 1,
        "settings": {"rounds": 3},
        "figures": [
            {
                "what": "TPS",
                "value": 0.5,
                "unit": "",
                "target": {"reach": 0.75, "stretch": 0.95, "at_least": True},
                "remark": "remark",
                "met": "no",
            }
        ],
        "samples": [{"kind": "bulk", "seconds": 1.5}],
    }


def test_what_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        document({}, [Figure("TPS", float("nan"))], [])
