"""Search paths as the server reads them, and the names of built-in things."""

from __future__ import annotations

import pytest

from data_plane.sql.effects import FUNCTIONS, is_sensitive
from data_plane.sql.names import CATALOG_RELATIONS, STEADY_FUNCTIONS, VOLATILE_FUNCTIONS
from data_plane.sql.settings import parse_path, plain_path
from protos.vocabulary import Risk


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("  ", ()),
        ("a", ("a",)),
        (" A , b\t,c ", ("a", "b", "c")),
        ('"A b", "$user"', ("A b", "$user")),
        ('"a""b"', ('a"b',)),
        ("$user, public", ("$user", "public")),
        ("a b", None),
        ("a,", None),
        (",a", None),
        ('"a', None),
        ('"a""', None),
        ('"a"b', None),
        ('a"b', None),
        ('""', None),
        ("é", None),
        ("x" * 64, None),
        ('"é"', ("é",)),
    ],
)
def test_a_search_path_in_text_is_read_as_the_server_does(
    text: str, path: tuple[str, ...] | None
) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ((), True),
        (("a", "b"), True),
        (("pg_catalog", "a"), True),
        (("a", "pg_catalog"), False),
        (("a", "pg_temp"), False),
        (("pg_temp",), False),
        (("pg_toast", "a"), False),
    ],
)
def test_a_path_is_plain_where_builtins_are_found_first(path: tuple[str, ...], plain: bool) -> None:
    assert plain_path(path) is plain


def test_no_volatile_function_is_harmless_without_a_judgement() -> None:
    assert STEADY_FUNCTIONS.isdisjoint(VOLATILE_FUNCTIONS)
    for name in ("pg_read_file", "lo_unlink", "query_to_xml", "pg_terminate_backend", "ts_stat"):
        assert FUNCTIONS[name] is Risk.EXECUTE
    assert FUNCTIONS["table_to_xml"] is Risk.EXECUTE
    assert FUNCTIONS["lower"] is Risk.READ
    assert "set_config" not in FUNCTIONS
    assert "binary_upgrade_set_next_pg_authid_oid" not in FUNCTIONS


def test_what_holds_secrets_is_sensitive_wherever_it_lies() -> None:
    assert is_sensitive("pg_catalog", "pg_authid")
    assert not is_sensitive("public", "pg_authid")
    assert is_sensitive("monitoring", "pg_stat_statements")
    assert is_sensitive("pg_toast", "pg_toast_1")
    assert is_sensitive("information_schema", "user_mapping_options")
    assert not is_sensitive("pg_catalog", "pg_class")
    assert "pg_class" in CATALOG_RELATIONS
