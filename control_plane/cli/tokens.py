"""Where the command line's access token comes from: given, or by client credentials.

A token is asked for once a command and kept in memory only. Neither it nor the client's secret
is in any message.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from control_plane.cli.errors import Refused, Unreachable, Usage


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """An Entra client that gets tokens for itself (OAuth 2.0, RFC 6749 section 4.4)."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str


def client_credentials(environment: Mapping[str, str]) -> ClientCredentials | None:
    """What ``JITGATE_TOKEN_URL`` and its companions say, or None where none is set.

    ``JITGATE_SCOPE`` may be the bare audience. Raises :class:`Usage` where some are missing.
    """
    names = ("JITGATE_TOKEN_URL", "JITGATE_CLIENT_ID", "JITGATE_CLIENT_SECRET", "JITGATE_SCOPE")
    values = [environment.get(name, "") for name in names]
    if not any(values[:3]):
        return None
    missing = [name for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise Usage(f"to get a token, {', '.join(missing)} must be set too")
    url, client_id, secret, scope = values
    if not scope.endswith("/.default"):
        scope += "/.default"
    return ClientCredentials(secure(url, "JITGATE_TOKEN_URL"), client_id, secret, scope)


def secure(url: str, name: str) -> str:
    """The URL without a trailing slash; raises :class:`Usage` where a token would go in clear."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise Usage(f"{name} is no URL") from None
    loopback = parsed.host in ("127.0.0.1", "::1", "localhost")
    if not parsed.host or not (parsed.scheme == "https" or (parsed.scheme == "http" and loopback)):
        raise Usage(f"{name} must be an https:// URL")
    if parsed.userinfo:
        raise Usage(f"{name} must not hold a user name or a password")
    return url.rstrip("/")


def fetch(credentials: ClientCredentials, trust: ssl.SSLContext) -> str:
    """A fresh access token. Raises :class:`Refused` or :class:`Unreachable`."""
    try:
        answer = httpx.post(
            credentials.token_url,
            data={
                "grant_type": "client_credentials",
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret,
                "scope": credentials.scope,
            },
            verify=trust,
            timeout=30,
        )
    except httpx.HTTPError as error:
        raise Unreachable(f"the token endpoint can't be reached: {reason(error)}") from None
    try:
        content = answer.json()
    except ValueError:
        content = None
    content = content if isinstance(content, dict) else {}
    token = content.get("access_token")
    if answer.status_code == 200 and isinstance(token, str) and token:
        return token
    # RFC 6749 section 5.2; Entra's description has one line for people, then trace ids.
    error_code = str(content.get("error", f"HTTP {answer.status_code}"))
    description = str(content.get("error_description", "")).partition("\n")[0].strip()
    raise Refused(
        "no token was issued: " + error_code + (f": {description}" if description else "")
    )


def reason(error: httpx.HTTPError) -> str:
    """Why there was no answer, in one line and without what was sent."""
    return str(error).partition("\n")[0] or type(error).__name__
