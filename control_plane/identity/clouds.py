"""Entra's clouds: one record each, so that hosts and issuers are never mixed or derived.

Nothing in a token chooses a cloud; the settings do.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.settings import Settings

TENANT = "{tenantid}"
"""Where the tenant's id stands in an issuer; Microsoft's own key documents write it so too."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A cloud's places. ``login`` and ``graph`` are URLs without a trailing slash."""

    name: str
    login: str
    issuer_v1: str
    issuer_v2: str
    graph: str

    def issuer(self, version: str, tenant: str) -> str:
        """What ``iss`` must be, exactly: version 1 ends in a slash, version 2 doesn't."""
        form = self.issuer_v1 if version == "1.0" else self.issuer_v2
        return form.replace(TENANT, tenant)

    def metadata_url(self, version: str, tenant: str) -> str:
        """The tenant's own discovery document, for tokens of this version."""
        middle = "" if version == "1.0" else "/v2.0"
        return f"{self.login}/{tenant}{middle}/.well-known/openid-configuration"


def _cloud(name: str, login: str, sts: str, graph: str) -> Cloud:
    return Cloud(
        name=name,
        login=login,
        issuer_v1=f"{sts}/{TENANT}/",
        issuer_v2=f"{login}/{TENANT}/v2.0",
        graph=graph,
    )


PUBLIC = _cloud(
    "public",
    "https://login.microsoftonline.com",
    "https://sts.windows.net",
    "https://graph.microsoft.com",
)
# The version 1 issuer of this cloud is documented nowhere official; not tried against it.
US_GOVERNMENT = _cloud(
    "usgov",
    "https://login.microsoftonline.us",
    "https://sts.windows.net",
    "https://graph.microsoft.us",
)
CHINA = _cloud(
    "china",
    "https://login.partner.microsoftonline.cn",
    "https://sts.chinacloudapi.cn",
    "https://microsoftgraph.chinacloudapi.cn",
)


def development(url: str) -> Cloud:
    """The development issuer of the control plane at ``url``; it has no Graph."""
    login = f"{url}/development"
    return _cloud("development", login, login, "")


def of(settings: Settings) -> Cloud:
    """The cloud that the settings name."""
    if settings.cloud == "development":
        return development(settings.url)
    return {"public": PUBLIC, "usgov": US_GOVERNMENT, "china": CHINA}[settings.cloud]
