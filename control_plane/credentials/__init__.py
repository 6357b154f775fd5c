"""Credentials of targets: kept encrypted, leased to a relay for a session, never shown."""
