"""A real PostgreSQL with a small shop in it, and relays in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.vocabulary import Credential
from tests.servers import PostgresServer

ROLE = Credential("gateway_role", "gateway-secret-9f")

_SHOP = """
CREATE ROLE gateway_role LOGIN PASSWORD 'gateway-secret-9f';
CREATE TABLE customers (id int PRIMARY KEY, name text, email varchar(80), card text, age int,
  born date, tags text[], doc jsonb);
INSERT INTO customers VALUES
 (1, 'Ann', 'ann@example.com', '4111111111111111', 41, '1980-01-01', '{a}',
  '{"m": "zed@example.org"}'),
 (2, 'Bob', NULL, '5500000000000004', 42, NULL, NULL, NULL);
CREATE TABLE notes (id bigint, body text);
INSERT INTO notes VALUES (1, 'nothing here'), (2, 'write to carl@example.net soon'),
  (4111111111111111, 'a number');
CREATE TABLE orders (id int);
INSERT INTO orders SELECT generate_series(1, 20);
CREATE VIEW contacts AS SELECT id, email AS mail, upper(name) AS who FROM customers;
CREATE VIEW reach AS SELECT mail || '!' AS loud, id FROM contacts;
CREATE TABLE parts (id int, email text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
INSERT INTO parts VALUES (5, 'dora@example.com');
CREATE SCHEMA other;
CREATE TABLE other.customers (id int, email text);
INSERT INTO other.customers VALUES (9, 'other@example.com');
GRANT ALL ON ALL TABLES IN SCHEMA public TO gateway_role;
GRANT USAGE ON SCHEMA other TO gateway_role;
GRANT ALL ON ALL TABLES IN SCHEMA other TO gateway_role;
GRANT CREATE ON SCHEMA public TO gateway_role;
"""


@pytest.fixture(scope="session")
def shop() -> Iterator[PostgresServer]:
    """The server; tests leave its tables as they were."""
    with PostgresServer() as server:
        server.psql(_SHOP)
        yield server
