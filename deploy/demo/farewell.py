"""What a demonstration that stays up leaves: a description for programs, and one for people.

The description's form is documented in ``docs/reference/demo-env.md``.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from deploy.demo.agents import TARGET, conninfo
from deploy.demo.gateway import RELAY, Gateway
from deploy.demo.people import AUDIENCE, GROUPS, TENANT, Person
from deploy.demo.screen import Screen
from deploy.demo.surroundings import write_private
from deploy.demo.target import DATABASE, SUPERUSER, Target


def describe(gateway: Gateway, target: Target) -> dict[str, Any]:
    """What a script needs to drive the demonstration; it holds secrets."""
    cast = gateway.cast
    return {
        "api_url": gateway.api_url,
        "ca_file": str(gateway.ca_file),
        "relay": {
            "name": RELAY,
            "host": "127.0.0.1",
            "ports": {"postgres": gateway.ports.relay},
        },
        "grpc_port": gateway.ports.grpc,
        "tenant": TENANT,
        "token_endpoint": gateway.token_endpoint(),
        "audience": AUDIENCE,
        "scope": gateway.scope,
        "groups": dict(GROUPS),
        "agents": [_who(gateway, agent) for agent in cast.agents],
        "administrator": _who(gateway, cast.administrator),
        "approvers": [_who(gateway, approver) for approver in cast.approvers],
        "auditor": _who(gateway, cast.auditor),
        "target": {
            "name": TARGET,
            "host": target.host,
            "port": target.port,
            "database": DATABASE,
            "superuser": SUPERUSER,
            "password": target.password,
            "log_file": str(target.log),
        },
    }


def _who(gateway: Gateway, person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "kind": person.kind,
        "tenant": person.tenant,
        "token_endpoint": gateway.token_endpoint(person.tenant),
        "client_id": person.client_id,
        "client_secret": person.secret,
        "object_id": person.object_id,
        "roles": list(person.roles),
        "groups": [GROUPS[group] for group in person.groups],
        "remark": person.remark,
    }


def write_profiles(gateway: Gateway) -> None:
    """A file for each person, to be read by a shell: then psql or jitgate runs as them."""
    for person in gateway.cast.everybody:
        write_private(_profile(gateway, person), _profile_text(gateway, person))


def _profile(gateway: Gateway, person: Person) -> Path:
    return gateway.directory / f"as-{person.name.partition('@')[0]}.sh"


def _profile_text(gateway: Gateway, person: Person) -> str:
    if person in gateway.cast.agents:
        return (
            f"# Connection settings of {person.name} for psql, with a fresh token.\n"
            f"PGPASSWORD=$({_token_command(gateway, person)})\n"
            f"PGHOST=127.0.0.1 PGPORT={gateway.ports.relay} PGDATABASE={TARGET}\n"
            f"PGUSER={person.name} PGSSLMODE=verify-full\n"
            f"PGSSLROOTCERT={shlex.quote(str(gateway.ca_file))}\n"
            "export PGPASSWORD PGHOST PGPORT PGDATABASE PGUSER PGSSLMODE PGSSLROOTCERT\n"
        )
    lines = [f"# Makes the jitgate command run as {person.name}."]
    for name, value in gateway.variables(person).items():
        lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join(lines) + "\n"


def _token_command(gateway: Gateway, person: Person) -> str:
    """A pipe that prints an access token, with curl or else with Python."""
    read = "import json, sys; print(json.load(sys.stdin)['access_token'])"
    form = (
        f"grant_type=client_credentials&client_id={person.client_id}"
        f"&client_secret={person.secret}&scope={gateway.scope}"
    )
    return (
        f"curl -sS --cacert {shlex.quote(str(gateway.ca_file))} -d {shlex.quote(form)} "
        f'{gateway.token_endpoint(person.tenant)} | {shlex.quote(sys.executable)} -c "{read}"'
    )


def explain(screen: Screen, gateway: Gateway) -> None:
    """How to go on by hand."""
    cast = gateway.cast
    jitgate = Path(sys.executable).parent / "jitgate"
    screen.say("The demonstration stays up until you press Ctrl-C.")
    screen.lines(
        "",
        f"  API          {gateway.api_url}/api/v1",
        f"  OpenAPI      {gateway.api_url}/api/v1/openapi.json",
        f"  authority    {gateway.ca_file}",
        f"  for scripts  {gateway.directory / 'env.json'}",
        "",
        "As an agent, in another terminal:",
        "",
    )
    for agent in cast.agents:
        screen.lines(
            f"  # {agent.name}: {agent.remark}",
            f"  . {_profile(gateway, agent)} && psql",
        )
    screen.lines(
        "",
        "  (connection string, with the token as the password:",
        f'   psql "{conninfo(gateway, cast.reporting)}"',
        "   and a token:",
        f"   {_token_command(gateway, cast.reporting)} )",
        "",
        "To decide what it asks for, in a third terminal:",
        "",
        f"  . {_profile(gateway, cast.approvers[0])}",
        f"  {jitgate} approvals",
        f'  {jitgate} approve ID --reason "..."      # or deny',
        "",
        "And to see what happened:",
        "",
        f"  . {_profile(gateway, cast.auditor)}",
        f"  {jitgate} sessions",
        f"  {jitgate} replay SESSION",
        "",
    )
    if shutil.which("psql") is None:
        screen.say("psql isn't installed here; any PostgreSQL client will do.")
