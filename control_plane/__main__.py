"""``jitgate-control-plane``: the application behind uvicorn and TLS.

Everything is set by environment variables (:mod:`control_plane.settings`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import ssl
import sys
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from control_plane import logs
from control_plane.app import create_app
from control_plane.relays.authority import Authority, serving
from control_plane.settings import Settings

_RENEW_SECONDS = 24 * 3600.0


def main() -> int:
    """Serve until a signal says to stop, and end by it.

    Exit codes: 1 the database can't be reached, 2 wrong settings, 3 it could not start.
    """
    argparse.ArgumentParser(
        prog="jitgate-control-plane",
        description="The control plane: REST and gRPC. Settings are environment variables "
        "named JITGATE_..., see docs/reference/settings.md.",
    ).parse_args()
    logs.configure()
    try:
        settings = Settings()
        app = create_app(settings)
    except ValidationError as error:
        # Not str(error): it repeats the values, and a value can be a secret.
        for one in error.errors(include_input=False, include_url=False, include_context=False):
            where = ".".join(str(part) for part in one["loc"]) or "settings"
            print(f"jitgate-control-plane: {where}: {one['msg']}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"jitgate-control-plane: {error}", file=sys.stderr)
        return 2
    try:
        # First of all, and here: what goes wrong inside the server is told by a stack trace.
        app.state.database.engine.connect().close()
    except OperationalError as error:
        print(f"jitgate-control-plane: the database can't be used: {error.orig}", file=sys.stderr)
        return 1
    asyncio.run(_serve(settings, app))
    return 0


def server_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """How the application is served: TLS 1.2 or newer, nothing said of the server itself."""
    certificate, key = _certificate(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


async def _serve(settings: Settings, app: FastAPI) -> None:
    config = server_config(settings, app)
    assert config.ssl is not None
    renewal = asyncio.create_task(_renew(settings, config.ssl))
    structlog.get_logger().info("serving", url=settings.url)
    try:
        await uvicorn.Server(config).serve()
    finally:
        renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewal


async def _renew(settings: Settings, context: ssl.SSLContext) -> None:
    """Load the certificate again every day, for the connections that come then."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            certificate, key = await asyncio.to_thread(_certificate, settings)
            context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            # The old one serves on; tomorrow is another day.
            structlog.get_logger().error("certificate not renewed", error=type(error).__name__)


def _certificate(settings: Settings) -> tuple[Path, Path]:
    """Files with what to serve with: uvicorn takes nothing but files."""
    issued = serving(settings, Authority(settings.data_dir))
    certificate, key = settings.data_dir / "api.pem", settings.data_dir / "api.key"
    certificate.write_text(issued.chain_pem)
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(issued.key_pem)
    return certificate, key


if __name__ == "__main__":
    raise SystemExit(main())
