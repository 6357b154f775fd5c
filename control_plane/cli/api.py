"""The public REST API, as the command line uses it: requests, pages, problems.

It knows no route. Every answer that isn't a success becomes a :class:`CommandError`.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import quote

import httpx

from control_plane.cli.errors import Refused, Unreachable, Usage
from control_plane.cli.tokens import reason, secure

_PAGE = 200
_TIMEOUT = httpx.Timeout(60, connect=10)


class Problem(Refused):
    """The control plane's ``application/problem+json`` answer (RFC 9457)."""

    def __init__(self, status: int, content: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(content.get("code", ""))
        self.detail = str(content.get("detail") or content.get("title") or "refused")
        errors = content.get("errors")
        self.errors: list[Mapping[str, Any]] = [
            error
            for error in (errors if isinstance(errors, list) else [])
            if isinstance(error, dict)
        ]
        super().__init__(*self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.detail + (f" ({self.code})" if self.code else "")
        for error in self.errors:
            field = error.get("field")
            yield "  " + (f"{field}: " if field else "") + str(error.get("message", ""))


class Unanswered(Unreachable):
    """The request may have arrived, but there was no answer."""


def trust(ca: Path | None, *, system: bool = False) -> ssl.SSLContext:
    """Whom to believe: the authorities in ``ca``, or the system's; both with ``system``."""
    try:
        if ca is None or system:
            context = ssl.create_default_context()
            if ca is not None:
                context.load_verify_locations(ca)
            return context
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if type(error) is not ssl.SSLError else None
        raise Usage(f"{ca}: {why or 'no certificates in PEM form'}") from None


def path(*segments: str) -> str:
    """A path below ``/api/v1`` of segments that may hold anything."""
    return "/" + "/".join(_quoted(segment) for segment in segments)


def _quoted(segment: str) -> str:
    # A segment of dots only would be taken for a step up (RFC 3986 section 6.2.2.3).
    if not segment.strip("."):
        raise Usage(f"{segment!r} is no name")
    return quote(segment, safe="")


class Api:
    """One control plane. ``token`` is called at the first request that needs it."""

    def __init__(self, url: str, context: ssl.SSLContext, token: Callable[[], str]) -> None:
        self._base = secure(url, "the control plane's address")
        self._client = httpx.Client(verify=context, timeout=_TIMEOUT, follow_redirects=False)
        self._token = token
        self._authorization = ""

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, where: str, query: Mapping[str, Any] | None = None) -> Any:
        """What is at ``where``, out of JSON."""
        return self._content(self._send("GET", where, query=query))

    def text(self, where: str, media_type: str) -> str:
        """What is at ``where``, as text of this media type."""
        return self._send("GET", where, headers={"Accept": media_type}).text

    def send(
        self,
        method: str,
        where: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> Any:
        """Send ``body`` as JSON; the answer out of JSON, or None where it has no content.

        With ``again``, which asks for an idempotent request, it is sent once more where it
        may have arrived but no answer came.
        """
        try:
            answer = self._send(method, where, query=query, body=body, headers=headers)
        except Unanswered:
            if not again:
                raise
            answer = self._send(method, where, query=query, body=body, headers=headers)
        return self._content(answer)

    def listed(
        self, where: str, query: Mapping[str, Any] | None = None, limit: int = 0
    ) -> tuple[list[dict[str, Any]], bool]:
        """Up to ``limit`` items (0: all) over all pages, and whether there are more."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            wanted = min(_PAGE, limit - len(items)) if limit else _PAGE
            page = self.get(where, {**(query or {}), "limit": wanted, "cursor": cursor})
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise Unreachable(f"{self._base} doesn't answer as a control plane")
            items += page["items"]
            cursor = page.get("next")
            if cursor is None or (limit and len(items) >= limit):
                return items, cursor is not None

    def download(self, where: str) -> IO[bytes]:
        """The bytes at ``where`` in a temporary file, which the caller closes."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        try:
            request = self._request("GET", where, {}, None, {})
            answer = self._client.send(request, stream=True)
            try:
                if not answer.is_success:
                    answer.read()
                    self._check(answer)
                for part in answer.iter_bytes():
                    file.write(part)
            finally:
                answer.close()
        except httpx.HTTPError as error:
            file.close()
            raise self._unreachable(error) from None
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _request(
        self,
        method: str,
        where: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        if not self._authorization:
            self._authorization = f"Bearer {self._token()}"
        return self._client.build_request(
            method,
            f"{self._base}/api/v1{where}",
            params={k: v for k, v in (query or {}).items() if v not in (None, "")},
            json=body,
            headers={"Authorization": self._authorization, **(headers or {})},
        )

    def _send(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        request = self._request(method, where, query, body, headers)
        try:
            answer = self._client.send(request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        try:
            content = answer.json()
        except ValueError:
            content = None
        if isinstance(content, dict) and "status" in content:
            raise Problem(answer.status_code, content)
        raise Unreachable(
            f"{self._base} doesn't answer as a control plane (HTTP {answer.status_code})"
        )

    def _content(self, answer: httpx.Response) -> Any:
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(f"{self._base} doesn't answer as a control plane") from None

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        kind = Unreachable if unsent else Unanswered
        return kind(f"{self._base} can't be reached: {reason(error)}")
