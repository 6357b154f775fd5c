"""How the rows of a COPY are to be read."""

from __future__ import annotations

import pytest

from data_plane.sql import CopyDirection, CopyFormat, CopyShape, classify
from protos.vocabulary import Risk

OUT, IN = CopyDirection.OUT, CopyDirection.IN


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("COPY t TO STDOUT", CopyShape(OUT, "public.t")),
        ("COPY s.t (a, b) FROM STDIN", CopyShape(IN, "s.t", ("a", "b"))),
        ("COPY (SELECT 1) TO STDOUT", CopyShape(OUT, "")),
        ("COPY t TO STDOUT BINARY", CopyShape(OUT, "public.t", format=CopyFormat.BINARY)),
        (
            "COPY t TO STDOUT CSV HEADER",
            CopyShape(OUT, "public.t", (), CopyFormat.CSV, True, ",", ""),
        ),
        (
            "COPY t TO STDOUT (FORMAT csv, HEADER false, DELIMITER ';', NULL 'x', QUOTE '|',"
            " FORCE_QUOTE *)",
            CopyShape(OUT, "public.t", (), CopyFormat.CSV, False, ";", "x", "|", "|"),
        ),
        (
            "COPY t FROM STDIN (FORMAT csv, HEADER match, ESCAPE '!', ENCODING 'latin1', FREEZE)",
            CopyShape(IN, "public.t", (), CopyFormat.CSV, True, ",", "", '"', "!", "latin1"),
        ),
        ("COPY t TO STDOUT (HEADER 0)", CopyShape(OUT, "public.t", header=False)),
        ("COPY t TO STDOUT (HEADER 1)", CopyShape(OUT, "public.t", header=True)),
    ],
)
def test_the_shape_is_that_of_the_server(text: str, shape: CopyShape) -> None:
    assert classify(text).copy == shape


@pytest.mark.parametrize(
    "text",
    [
        "COPY t TO STDOUT (FORMAT parquet)",
        "COPY t TO STDOUT (FORMAT 'CSV')",
        "COPY t TO STDOUT (MYSTERY)",
        "COPY t TO STDOUT (DELIMITER ',', DELIMITER ';')",
        "COPY t TO STDOUT (FORMAT)",
    ],
)
def test_an_option_that_is_not_known_makes_the_rows_unreadable(text: str) -> None:
    shape = classify(text).copy
    assert shape is not None
    assert not shape.understood


@pytest.mark.parametrize(
    "text",
    ["COPY t TO '/x'", "COPY t FROM '/x'", "COPY t TO PROGRAM 'x'", "COPY t FROM PROGRAM 'x'"],
)
def test_a_copy_on_the_server_is_execution_and_has_no_shape(text: str) -> None:
    found = classify(text)
    assert found.copy is None
    assert found.risk is Risk.EXECUTE
    assert {resource.kind for resource in found.resources} & {"file", "program"}
