"""Getting a small document over HTTPS, with bounds on everything a server could do to us."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import httpx

from control_plane.identity.jwks import FetchFailed

MOST_BYTES = 512 * 1024
MOST_SECONDS = 10.0


class HttpsFetch:
    """Fetches by GET. Follows no redirect: where a document is, is the settings' word.

    ``environment`` says whether proxies in the environment are used; ``context`` whom we trust.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        environment: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._client = httpx.Client(
            verify=context,
            follow_redirects=False,
            trust_env=environment,
            timeout=httpx.Timeout(5.0),
            # A key document is wanted once an hour: no connection is kept for that.
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"accept": "application/json", "user-agent": "jitgate"},
        )

    def __call__(self, url: str) -> bytes:
        """The document; raises :class:`FetchFailed`. Callable from any thread."""
        end = self._clock() + MOST_SECONDS
        body = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise FetchFailed(f"HTTP status {response.status_code}")
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise FetchFailed("the document is too large")
                    if self._clock() > end:
                        raise FetchFailed("the document takes too long")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise FetchFailed(type(error).__name__) from error
        return bytes(body)

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()
