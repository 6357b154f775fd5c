"""What it means to change a session setting.

Counterpart: :mod:`data_plane.sql.utility` and :mod:`data_plane.sql.queries` hand in SET,
RESET and ``set_config()``; the conversation keeps the session's state by the
:class:`~data_plane.sql.statement.SettingChange` that stands in the statement.
"""

from __future__ import annotations

from protos.vocabulary import Risk

# They change how this session's answers look, are planned or time out, and nothing else.
# default_transaction_read_only=off is not among them, since it takes a protection away;
# row_security=off is, since it makes the server refuse what it would filter.
_HARMLESS = frozenset(
    """
    application_name bytea_output client_min_messages cpu_index_tuple_cost
    cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction datestyle
    default_statistics_target default_text_search_config
    default_transaction_deferrable default_transaction_isolation
    effective_cache_size effective_io_concurrency extra_float_digits
    from_collapse_limit gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier
    idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit
    jit_above_cost join_collapse_limit lc_monetary lc_numeric lc_time lc_messages
    lock_timeout maintenance_work_mem max_parallel_workers
    max_parallel_workers_per_gather plan_cache_mode quote_all_identifiers
    random_page_cost row_security seed seq_page_cost statement_timeout synchronize_seqscans
    tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout
    temp_buffers timezone timezone_abbreviations transaction_deferrable
    transaction_isolation transaction_timeout work_mem xmlbinary xmloption
    array_nulls check_function_bodies restrict_nonsystem_relation_kind
    """.split()  # noqa: SIM905
)
_SPACE = " \t\n\r\f\v"
TRACKED = frozenset(
    """
    backslash_quote client_encoding role search_path session_authorization
    standard_conforming_strings
    """.split()  # noqa: SIM905
)
"""What the meaning of later statements hangs on: whether it was set must be certain."""

_HARMLESS_PREFIXES = ("enable_", "geqo")

# What is harmless for some values only; compared in lower case.
_HARMLESS_VALUES = {
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "escape_string_warning": frozenset({"on", "off", "true", "false", "yes", "no", "1", "0"}),
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "default_transaction_read_only": frozenset({"on", "true", "yes", "1"}),
    "transaction_read_only": frozenset({"on", "true", "yes", "1"}),
    "backslash_quote": frozenset({"safe_encoding"}),
    # Switching it off makes a commit that was answered be lost in a crash.
    "synchronous_commit": frozenset({"on", "remote_apply"}),
}


def setting_risk(name: str, values: tuple[str, ...] | None) -> Risk:
    """The risk of setting ``name`` (in lower case) to literal values; ``None``: to its default.

    READ where only this session's comfort is touched, ADMINISTER where its rights, its checks
    or the meaning of what it sends are, and where the setting isn't known here. A default is
    whatever the administrator chose for this login, so going back to it is harmless for
    every setting that has a harmless value.
    """
    if name == "search_path":
        return Risk.READ if values is None or plain_path(values) else Risk.ADMINISTER
    if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES):
        return Risk.READ
    accepted = _HARMLESS_VALUES.get(name)
    if accepted is None:
        return Risk.ADMINISTER
    if values is None or (len(values) == 1 and values[0].lower() in accepted):
        return Risk.READ
    # A transaction is writable unless somebody said otherwise.
    return Risk.WRITE if name == "transaction_read_only" else Risk.ADMINISTER


def plain_path(values: tuple[str, ...]) -> bool:
    """Whether a search path only says where names are looked up, ``pg_catalog`` before all.

    ``pg_catalog`` named behind another schema, or temporary schemas before it, would let a
    function or operator of one's own stand in for a built-in.
    """
    if any(value.startswith("pg_") for value in values[1:]):
        return False
    return not values or values[0] == "pg_catalog" or not values[0].startswith("pg_")


def parse_path(text: str) -> tuple[str, ...] | None:
    """The schemas in the text form of a search path, as ``set_config`` takes it.

    Follows the server's identifier lists: unquoted names fold to lower case, quoted ones are
    taken as they are. ``None`` where the text isn't one, or isn't plain ASCII outside quotes.
    """
    rest = text.strip(_SPACE)
    if not rest:
        return ()
    names: list[str] = []
    while True:
        if rest.startswith('"'):
            end = _quoted_end(rest)
            if end < 0:
                return None
            name = rest[1:end].replace('""', '"')
            rest = rest[end + 1 :]
        else:
            stops = [rest.find(mark) for mark in (",", *_SPACE) if mark in rest]
            end = min(stops, default=len(rest))
            name = rest[:end].lower()
            rest = rest[end:]
            if not name.isascii() or '"' in name:
                return None
        # A name of more than 63 bytes is cut by the server (NAMEDATALEN).
        if not name or len(name.encode()) > 63:
            return None
        names.append(name)
        rest = rest.lstrip(_SPACE)
        if not rest:
            return tuple(names)
        if not rest.startswith(","):
            return None
        rest = rest[1:].lstrip(_SPACE)


def _quoted_end(text: str) -> int:
    """Where the quoted name that ``text`` begins with ends, or -1."""
    index = 1
    while (index := text.find('"', index)) >= 0:
        if text[index + 1 : index + 2] != '"':
            return index
        index += 2
    return -1
