"""PostgreSQL, protocol 3.0."""
