"""The development issuer: Entra's shape, over TLS, verified by the very same checks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from structlog.testing import capture_logs

from control_plane.app import create_app
from control_plane.errors import Forbidden
from control_plane.identity import clouds, development, development_routes
from control_plane.settings import Settings
from protos.vocabulary import PrincipalKind
from tests.control_plane.serving import Served
from tests.control_plane.tokens import guid
from tests.servers import free_port

TENANT, FOREIGN, AUDIENCE = guid("dev tenant"), guid("foreign tenant"), guid("dev audience")


def identity(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "client_id": guid(f"{name} client"),
        "client_secret": f"{name}-secret",
        "object_id": guid(f"{name} object"),
        "name": name,
    } | changes


def document() -> dict[str, Any]:
    kinds = [identity(f"kind-{kind}", kind=kind, roles=["r"]) for kind in PrincipalKind]
    return {
        "tenant": TENANT,
        "audience": AUDIENCE,
        "identities": [
            identity("ada", kind="user", roles=["jitgate.admin"], groups=[guid("approvers")]),
            identity("late", token_seconds=-3600),
            *kinds,
        ],
        "tenants": [{"tenant": FOREIGN, "audience": AUDIENCE, "identities": [identity("eve")]}],
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "identities.json"
    file.write_text(json.dumps(document()))
    return Settings(
        data_dir=tmp_path / "data",
        api_port=free_port(),
        grpc_port=free_port(),
        cloud="development",
        development_issuer=file,
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def served(app: FastAPI, settings: Settings) -> Iterator[Served]:
    with Served(app, settings) as running:
        yield running


def ask(
    client: httpx.Client, name: str, tenant: str = TENANT, **changes: str | None
) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": guid(f"{name} client"),
        "client_secret": f"{name}-secret",
        "scope": f"{AUDIENCE}/.default",
    } | changes
    return client.post(
        f"/development/{tenant}/oauth2/v2.0/token",
        data={field: value for field, value in form.items() if value is not None},
    )


def token(client: httpx.Client, name: str, tenant: str = TENANT) -> str:
    answer = ask(client, name, tenant)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["access_token"]
    return found


def me(client: httpx.Client, token: str) -> httpx.Response:
    return client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})


def test_a_token_by_client_credentials_is_verified_over_https(served: Served) -> None:
    told = me(served.client, token(served.client, "ada")).json()
    assert told["name"] == "ada"
    assert told["kind"] == "user"
    assert told["roles"] == ["admin"]
    assert told["groups"] == [guid("approvers")]
    assert told["object_id"] == guid("ada object")


@pytest.mark.parametrize("kind", PrincipalKind)
def test_a_token_of_every_kind_is_told_apart(served: Served, kind: PrincipalKind) -> None:
    assert me(served.client, token(served.client, f"kind-{kind}")).json()["kind"] == kind


def test_an_expired_token_can_be_had_and_is_refused(served: Served) -> None:
    answer = ask(served.client, "late").json()
    assert answer["expires_in"] == 0
    assert me(served.client, answer["access_token"]).json()["code"] == "token_expired"


def test_a_foreign_tenants_token_is_refused_for_its_tenant(served: Served) -> None:
    found = token(served.client, "eve", FOREIGN)
    assert me(served.client, found).json()["code"] == "tenant_not_accepted"


def test_a_token_has_entras_form(served: Served) -> None:
    answer = ask(served.client, "kind-agent")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    head, payload, _ = (
        base64.urlsafe_b64decode(part + "==") for part in body["access_token"].split(".")
    )
    assert set(json.loads(head)) == {"typ", "alg", "kid"}
    claims = json.loads(payload)
    assert claims["iss"] == f"{served.url}/development/{TENANT}/v2.0"
    assert claims["aud"] == AUDIENCE
    assert claims["ver"] == "2.0"
    assert "11" in claims["xms_act_fct"].split()
    assert "11" in claims["xms_sub_fct"].split()
    assert claims["exp"] - claims["iat"] == 3900


def test_the_client_may_authenticate_by_basic(served: Served) -> None:
    answer = served.client.post(
        f"/development/{TENANT}/oauth2/v2.0/token",
        data={"grant_type": "client_credentials", "scope": f"api://{AUDIENCE}/.default"},
        auth=(guid("ada client"), "ada-secret"),
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error", "number"),
    [
        ({"client_secret": "wrong-secret"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, 401, "invalid_client", 7000215),
        ({"client_secret": "\0"}, 401, "invalid_client", 7000215),
        ({"client_id": guid("nobody"), "client_secret": "\0"}, 401, "invalid_client", 7000215),
        ({"client_id": guid("nobody")}, 401, "invalid_client", 7000215),
        ({"client_id": guid("late client")}, 401, "invalid_client", 7000215),
        ({"client_id": None}, 401, "invalid_client", 7000215),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"grant_type": None}, 400, "unsupported_grant_type", 70003),
        ({"scope": "https://graph.microsoft.com/.default"}, 400, "invalid_scope", 1002012),
        ({"scope": None}, 400, "invalid_scope", 1002012),
    ],
)
def test_a_wrong_request_is_refused_in_entras_words(
    served: Served, changes: dict[str, str | None], status: int, error: str, number: int
) -> None:
    answer = ask(served.client, "ada", **changes)
    assert answer.status_code == status
    assert answer.json()["error"] == error
    assert answer.json()["error_codes"] == [number]
    assert answer.json()["error_description"].startswith(f"AADSTS{number}: ")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"grant_type", {}),
        (b"\xff=1", {}),
        (b"a=1&a=2", {}),
        (b"&".join(b"a%d=1" % number for number in range(60)), {}),
        (b"client_secret=x", {"authorization": "Basic YTpi"}),
        (b"a=1", {"authorization": "Basic !!"}),
        (b"a=1", {"authorization": "Basic YWI="}),
        (b"a=1", {"authorization": "Basic //8="}),
        (b"a=1", {"authorization": "Bearer YTpi"}),
    ],
)
def test_a_malformed_request_is_refused(
    served: Served, body: bytes, headers: dict[str, str]
) -> None:
    answer = served.client.post(
        f"/development/{TENANT}/oauth2/v2.0/token", content=body, headers=headers
    )
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] in ("invalid_request", "invalid_client")


def test_an_unknown_tenant_has_nothing(served: Served) -> None:
    unknown = f"/development/{guid('nowhere')}"
    assert served.client.get(f"{unknown}/v2.0/.well-known/openid-configuration").status_code == 404
    assert served.client.get(f"{unknown}/discovery/v2.0/keys").status_code == 404
    assert ask(served.client, "ada", guid("nowhere")).json()["error_codes"] == [90002]


def test_the_documents_hold_public_keys_only(served: Served) -> None:
    base = f"/development/{TENANT}"
    metadata = served.client.get(f"{base}/v2.0/.well-known/openid-configuration").json()
    assert metadata["token_endpoint"] == f"{served.url}{base}/oauth2/v2.0/token"
    (key,) = served.client.get(metadata["jwks_uri"]).json()["keys"]
    assert set(key) == {"kty", "use", "kid", "n", "e", "issuer"}


def test_it_is_loud(app: FastAPI, settings: Settings) -> None:
    with capture_logs() as logs, Served(app, settings) as running:
        assert running.client.get("/healthz").headers["x-jitgate-development"] == "true"
    assert [entry["log_level"] for entry in logs if "DEVELOPMENT ISSUER IS ON" in entry["event"]]


def test_a_token_endpoint_never_logs_a_secret(served: Served) -> None:
    with capture_logs() as logs:
        token(served.client, "ada")
    assert "ada-secret" not in str(logs)


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.0.2.1", 403), ("10.0.0.5", 403), ("somewhere", 403), ("127.0.0.9", 200), ("::1", 200)],
)
def test_only_loopback_is_served(app: FastAPI, host: str, status: int) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
            answer = await client.get(f"/development/{TENANT}/discovery/v2.0/keys")
        return answer.status_code

    assert asyncio.run(ask()) == status


def test_without_the_setting_there_is_no_issuer(tmp_path: Path) -> None:
    plain = create_app(Settings(data_dir=tmp_path / "plain"))

    async def ask() -> int:
        transport = httpx.ASGITransport(plain, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
            return (await client.get(f"/development/{TENANT}/discovery/v2.0/keys")).status_code

    assert asyncio.run(ask()) == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"api_host": "0.0.0.0"},
        {"cloud": "public"},
        {"development_issuer": None},
    ],
)
def test_settings_refuse_an_issuer_that_others_could_reach(
    settings: Settings, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        Settings(**(settings.model_dump() | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "common"},
        {"unknown": 1},
        {"identities": [identity("a"), identity("a")]},
        {"identities": [identity("a", client_secret="short")]},
        {"identities": [identity("a", token_seconds=0)]},
        {"identities": [identity("a", token_seconds=-119)]},
        {"identities": [identity("a", token_seconds=10**9)]},
        {"identities": [identity("a", kind="robot")]},
        {"identities": [identity("a", groups=["admins"])]},
    ],
)
def test_a_wrong_file_is_refused_without_repeating_a_secret(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document() | changes))
    with pytest.raises(ValidationError) as refused:
        development.read(path)
    assert "secret'" not in str(refused.value)
    assert "'short'" not in str(refused.value)


def test_secrets_are_not_printed(settings: Settings) -> None:
    assert settings.development_issuer is not None
    assert "ada-secret" not in repr(development.read(settings.development_issuer))


def test_the_clouds_of_settings() -> None:
    names = ("public", "usgov", "china")
    assert [clouds.of(Settings(cloud=name)).name for name in names] == list(names)


def test_a_caller_without_an_address_is_not_loopback() -> None:
    request = Request({"type": "http", "client": None, "headers": []})
    with pytest.raises(Forbidden):
        development_routes._only_loopback(request)
