"""The evasion corpus, sent to a real server through the relay, as an agent would.

The gateway's role at the target is a superuser here, so whatever gets past the relay works. The
agent may read and nothing else: what isn't harmless has to be refused, and in the end the
database has to be what it was.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from deploy.demo.people import GROUPS
from deploy.demo.target import SUPERUSER
from tests.end_to_end.gateway import Gateway, until
from tests.evasion.test_corpus import Attempt, attempts

DOCUMENTS = f"""
apiVersion: jitgate/v1
kind: Target
metadata: {{name: corpus}}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: %d
  database: shop
  tls: {{mode: disable}}
  credential: corpus
---
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: corpus}}
spec:
  subjects: [{{groups: [{GROUPS["analysts"]}]}}]
  targets: {{names: [corpus]}}
  rules: [{{name: read, outcome: allow, risks: [read]}}]
"""
FINGERPRINT = """
SELECT (SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o),
       (SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c),
       (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc),
       (SELECT md5(string_agg(r::text, '|' ORDER BY oid)) FROM pg_authid r),
       (SELECT count(*) FROM pg_largeobject_metadata),
       (SELECT count(*) FROM pg_db_role_setting),
       (SELECT count(*) FROM pg_prepared_xacts),
       (SELECT md5(string_agg(s::text, '|')) FROM pg_file_settings s)
"""


@pytest.fixture(scope="module")
def corpus(gateway: Gateway) -> str:
    gateway.call(
        "PUT",
        "/api/v1/credentials/corpus",
        json={"username": SUPERUSER, "password": gateway.target.password},
    )
    gateway.apply(DOCUMENTS % gateway.target.port)

    def known() -> bool:
        try:
            gateway.connect(database="corpus").close()
        except psycopg.OperationalError:
            return False
        return True

    until(known, "the target of the corpus at the relay")
    return "corpus"


def fingerprint(gateway: Gateway) -> Any:
    with gateway.superuser() as connection:
        return connection.execute(FINGERPRINT).fetchall()


def refused(gateway: Gateway, target: str, attempt: Attempt) -> bool:
    """Whether the gateway, and not the server, said no."""
    with contextlib.closing(gateway.connect(database=target)) as connection:
        result = connection.pgconn.exec_(attempt.sql.encode())
        if result.status != ExecStatus.FATAL_ERROR:
            return False
        detail = (result.error_field(psycopg.pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode()
        *_, last = detail.splitlines() or [""]
        if not last.startswith("jitgate: "):
            return False
        return bool(json.loads(last.removeprefix("jitgate: "))["code"])


ATTEMPTS = [attempt for attempt in attempts() if attempt.state is None and "\0" not in attempt.sql]


def test_no_attempt_of_the_corpus_changes_anything(gateway: Gateway, corpus: str) -> None:
    before = fingerprint(gateway)
    wrong = []
    for attempt in ATTEMPTS:
        if attempt.expect != "harmless":
            if not refused(gateway, corpus, attempt):
                wrong.append(f"{attempt.id} was not refused")
        elif refused(gateway, corpus, attempt):
            wrong.append(f"{attempt.id} is harmless, and was refused")
    assert wrong == []
    assert len(ATTEMPTS) > 150
    assert fingerprint(gateway) == before
