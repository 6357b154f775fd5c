"""What functions and relations of a PostgreSQL server do beyond reading rows.

Counterpart: :mod:`data_plane.sql.names`, generated from real servers, says which functions
are steady; this module is the judgement by hand, and comes first. It knows names only: whose
function a name resolves to is :mod:`data_plane.sql.queries`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from data_plane.sql.names import STEADY_FUNCTIONS
from protos.vocabulary import Risk

# Volatile, and yet nothing is changed and nothing shown that a SELECT wouldn't show.
# pg_sleep holds a connection, but so does a cross join, so refusing it would protect nothing.
# setseed, array_shuffle and their like touch this session's random state only. The sizes,
# positions and states are what a catalogue shows.
_READ = """
    array_sample array_shuffle clock_timestamp current_query currval gen_random_uuid lastval
    pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_blocking_pids pg_collation_actual_version pg_current_wal_flush_lsn
    pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version
    pg_database_size pg_get_multixact_members pg_get_sequence_data pg_get_wait_events
    pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
    pg_isolation_test_session_is_blocked pg_jit_available pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    pg_lock_status pg_notification_queue_usage pg_partition_ancestors pg_partition_tree
    pg_prepared_xact pg_relation_size pg_safe_snapshot_blocking_pids pg_sequence_last_value
    pg_sleep pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_get_io
    pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched
    pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time
    pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted
    pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated
    pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_stat_have_stats
    pg_table_size pg_tablespace_size pg_total_relation_size pg_xact_commit_timestamp
    pg_xact_commit_timestamp_origin pg_xact_status random random_normal setseed timeofday
    txid_status uuidv4 uuidv7
"""

# Advisory locks (taken, not given back) and notifications reach other sessions, sequences
# outlive the transaction, and an exported snapshot keeps the server from cleaning up.
_WRITE = """
    nextval setval pg_notify pg_export_snapshot
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_xact_lock
    pg_advisory_xact_lock_shared
    pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared
"""

# What runs the server, or shows other sessions' statements, files of configuration, or
# credentials of replication.
_ADMINISTER = """
    brin_desummarize_range brin_summarize_new_values brin_summarize_range
    gin_clean_pending_list pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup
    pg_clear_attribute_stats pg_clear_relation_stats pg_restore_attribute_stats
    pg_restore_relation_stats pg_create_restore_point pg_extension_config_dump
    pg_get_aios pg_get_backend_memory_contexts pg_get_shmem_allocations pg_hba_file_rules
    pg_ident_file_mappings pg_import_system_collations pg_log_backend_memory_contexts
    pg_log_standby_snapshot pg_promote pg_reload_conf pg_replication_slot_advance
    pg_rotate_logfile pg_show_all_file_settings pg_show_replication_origin_status
    pg_stat_force_next_flush pg_stat_get_activity pg_stat_get_backend_activity
    pg_stat_get_backend_client_addr pg_stat_get_backend_client_port
    pg_stat_get_progress_info pg_stat_get_wal_receiver pg_stat_get_wal_senders
    pg_stat_reset pg_stat_reset_backend_stats pg_stat_reset_replication_slot
    pg_stat_reset_shared pg_stat_reset_single_function_counters
    pg_stat_reset_single_table_counters pg_stat_reset_slru pg_stat_reset_subscription_stats
    pg_stop_making_pinned_objects pg_switch_wal pg_sync_replication_slots
    pg_wal_replay_pause pg_wal_replay_resume
    pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot
    pg_drop_replication_slot pg_logical_emit_message
    pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop
    pg_replication_origin_session_reset pg_replication_origin_session_setup
    pg_replication_origin_xact_reset pg_replication_origin_xact_setup
"""

# What runs a text or a program, reaches files or another server, ends other sessions, or
# reads rows by a name given as a value, where no classification of the statement can see it.
_EXECUTE = """
    query_to_xml query_to_xml_and_xmlschema query_to_xmlschema
    table_to_xml table_to_xml_and_xmlschema table_to_xmlschema
    schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema
    database_to_xml database_to_xml_and_xmlschema database_to_xmlschema
    cursor_to_xml cursor_to_xmlschema ts_stat ts_rewrite currtid currtid2
    xpath_table crosstab crosstab2 crosstab3 crosstab4 crosstab_hash connectby
    dblink dblink_exec dblink_open dblink_fetch dblink_close dblink_connect
    dblink_connect_u dblink_send_query dblink_get_result dblink_disconnect
    dblink_build_sql_insert dblink_build_sql_update dblink_build_sql_delete
    lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64
    lo_open lo_put lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite
    pg_read_file pg_read_binary_file pg_read_file_old pg_stat_file pg_ls_dir pg_ls_logdir
    pg_ls_waldir pg_ls_tmpdir pg_ls_archive_statusdir pg_ls_logicalmapdir
    pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir pg_current_logfile
    pg_file_write pg_file_read pg_file_unlink pg_file_rename pg_file_sync pg_logdir_ls
    pg_logfile_rotate pg_rotate_logfile_old
    pg_terminate_backend pg_cancel_backend
    pg_logical_slot_get_binary_changes pg_logical_slot_get_changes
    pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes
    pg_available_wal_summaries pg_wal_summary_contents
"""

# Steady by the catalogue, but left without a judgement: they are for internal use.
_UNJUDGED = """
    pg_ddl_command_send pg_event_trigger_ddl_commands pg_event_trigger_dropped_objects
    pg_event_trigger_table_rewrite_oid pg_event_trigger_table_rewrite_reason
"""


def _table() -> dict[str, Risk]:
    table = dict.fromkeys(STEADY_FUNCTIONS, Risk.READ)
    for names, risk in (
        (_READ, Risk.READ),
        (_WRITE, Risk.WRITE),
        (_ADMINISTER, Risk.ADMINISTER),
        (_EXECUTE, Risk.EXECUTE),
        (_UNJUDGED, Risk.UNKNOWN),
    ):
        table.update(dict.fromkeys(names.split(), risk))
    return table


FUNCTIONS: Mapping[str, Risk] = MappingProxyType(_table())
"""The risk of calling a function by its bare or ``pg_catalog`` name; absent: unknown."""

NAMES_ITS_SEQUENCE = frozenset({"nextval", "setval", "currval"})

_SENSITIVE = frozenset(
    """
    pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_subscription pg_largeobject
    pg_statistic pg_statistic_ext_data pg_stats pg_stats_ext pg_stats_ext_exprs
    pg_stat_activity pg_stat_replication pg_stat_wal_receiver pg_stat_statements
    pg_stat_statements_info pg_hba_file_rules pg_ident_file_mappings pg_file_settings
    pg_db_role_setting pg_replication_origin_status
    user_mapping_options user_mappings _pg_user_mappings
    """.split()  # noqa: SIM905
)

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})


def is_sensitive(schema: str, name: str) -> bool:
    """Whether a relation holds credentials, other sessions' statements or samples of data.

    ``pg_statistic`` and its views hold the commonest values of every column, and
    ``pg_toast`` holds the long values themselves.
    """
    if schema.startswith("pg_toast"):
        return True
    # pg_stat_statements is an extension's, and lies wherever that was put.
    return name in _SENSITIVE and (
        schema in SYSTEM_SCHEMAS or name.startswith("pg_stat_statements")
    )
