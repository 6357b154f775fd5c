"""The databases of the control plane's tests."""

from tests.control_plane.conftest import empty_database_url, postgres

__all__ = ["empty_database_url", "postgres"]
