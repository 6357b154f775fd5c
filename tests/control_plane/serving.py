"""An application served as it is in production: uvicorn, TLS, a real port; in a thread."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from typing import Self

import httpx
import uvicorn
from fastapi import FastAPI

from control_plane.__main__ import server_config
from control_plane.relays.authority import Authority
from control_plane.settings import Settings


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another thread does; fail if it doesn't."""
    pause = threading.Event()
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.005)


class _Server(uvicorn.Server):
    """Says when it has started, or that it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.settled.set()


class Served:
    """A context manager: inside, ``app`` answers at ``settings.api_port``.

    ``client`` trusts the application's own authority and nothing else.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        authority: Authority = app.state.authority
        self.app = app
        self.settings = settings
        self.url = settings.url
        self.ca_path = authority.ca_path
        self._server = _Server(server_config(settings, app))
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)
        self.failure: BaseException | None = None

    def _run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:  # noqa: BLE001  # told to whoever waits for the start
            self.failure = error
        finally:
            self._server.settled.set()

    def new_client(self, **headers: str) -> httpx.Client:
        """Another client of the application; the caller closes it."""
        return httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(self.ca_path)),
            trust_env=False,
            headers=headers,
            timeout=30,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._server.settled.wait(30) or not self._server.started:
            raise RuntimeError(f"the application did not start: {self.failure!r}")
        self.client = self.new_client()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the application did not stop"
        # asyncio's loop closes without the TLS connections that their other end has not closed
        # yet, and would warn of them in whichever test the collector runs next.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
