"""Where the control plane is, who asks, and what happens when one of them isn't right."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.control_plane.cli.command import ROOT, Answer, Asked, Scripted, jitgate, jitgate_process
from tests.servers import free_port

PAGE = Answer.of({"items": [], "next": None})
TOKEN = "secret-token-" + base64.urlsafe_b64encode(b"x" * 30).decode()


def nothing(_: Asked) -> Answer:
    return PAGE


def problem(status: int, code: str, detail: str = "no", **more: object) -> Answer:
    return Answer.of(
        {"title": "t", "status": status, "code": code, "detail": detail, **more}, status
    )


def test_options_stand_before_or_behind_the_command_or_in_the_environment() -> None:
    with Scripted(nothing) as server:
        for arguments, environment in (
            (["--api", server.url, "--token", TOKEN, "sessions"], {}),
            (["sessions", "--api", server.url, "--token", TOKEN], {}),
            (["sessions", "--token", TOKEN, "list", "--api", server.url], {}),
            (["sessions"], {"JITGATE_API": server.url + "/", "JITGATE_TOKEN": TOKEN}),
            (
                ["--token", "old", "sessions", "--token", TOKEN],
                {"JITGATE_API": server.url, "JITGATE_TOKEN": "older"},
            ),
        ):
            assert jitgate(*arguments, "-o", "json", **environment).json == []
        assert {one.headers["Authorization"] for one in server.asked} == {f"Bearer {TOKEN}"}
        assert {one.path for one in server.asked} == {"/api/v1/sessions?limit=50"}


def test_a_token_is_fetched_by_client_credentials() -> None:
    def script(asked: Asked) -> Answer:
        return Answer.of({"access_token": TOKEN}) if asked.path == "/token" else PAGE

    with Scripted(script) as server:
        done = jitgate(
            "sessions",
            JITGATE_API=server.url,
            JITGATE_TOKEN_URL=server.url + "/token",
            JITGATE_CLIENT_ID="agent",
            JITGATE_CLIENT_SECRET="hunter2",
            JITGATE_SCOPE="api://jitgate",
        )
        assert (done.code, done.err) == (0, "")
        asked, listed = server.asked
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["agent"],
        "client_secret": ["hunter2"],
        "scope": ["api://jitgate/.default"],
    }
    assert "Authorization" not in asked.headers
    assert listed.headers["Authorization"] == f"Bearer {TOKEN}"


CLIENT = {
    "JITGATE_CLIENT_ID": "agent",
    "JITGATE_CLIENT_SECRET": "hunter2",
    "JITGATE_SCOPE": "api://jitgate/.default",
}


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (
            Answer.of(
                {"error": "invalid_client", "error_description": "AADSTS7: no\r\nTrace"}, 401
            ),
            1,
            "error: no token was issued: invalid_client: AADSTS7: no\n",
        ),
        (Answer.of({"access_token": ""}), 1, "error: no token was issued: HTTP 200\n"),
        (Answer(500, b"<html>"), 1, "error: no token was issued: HTTP 500\n"),
        (Answer.of(["x"]), 1, "error: no token was issued: HTTP 200\n"),
        (Answer(302, b"", {"Location": "http://127.0.0.1/"}), 1, "HTTP 302"),
        (Answer(0), 3, "error: the token endpoint can't be reached: "),
        (Answer.of({"access_token": "two words"}), 2, "what no token holds"),
    ],
)
def test_why_no_token_was_issued_is_told(answer: Answer, code: int, message: str) -> None:
    with Scripted(lambda _: answer) as server:
        done = jitgate(
            "sessions", JITGATE_API=server.url, JITGATE_TOKEN_URL=server.url + "/token", **CLIENT
        )
        assert len(server.asked) == 1
    assert done.code == code
    assert message in done.err
    assert "hunter2" not in done.out + done.err


def test_half_of_the_client_credentials_are_wrong_usage() -> None:
    done = jitgate("sessions", JITGATE_CLIENT_SECRET="hunter2", JITGATE_TOKEN_URL="https://x")
    assert done.code == 2
    assert "JITGATE_CLIENT_ID, JITGATE_SCOPE must be set too" in done.err
    assert "hunter2" not in done.err


def test_without_any_token_nothing_is_sent() -> None:
    with Scripted(nothing) as server:
        done = jitgate("sessions", JITGATE_API=server.url)
        assert (done.code, server.asked) == (2, [])
    assert "no access token: set JITGATE_TOKEN" in done.err


@pytest.mark.parametrize("token", ["a b", "a\nb", "ü", "a\x1bb"])
def test_a_token_that_is_none_is_not_quoted(token: str) -> None:
    with Scripted(nothing) as server:
        done = jitgate("sessions", JITGATE_API=server.url, JITGATE_TOKEN=token)
        assert (done.code, server.asked) == (2, [])
    assert token not in done.err


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example",
        "ftp://127.0.0.1",
        "gateway.example",
        "https://",
        "https://user:hunter2@gateway.example",
        "http://[",
        "http://127.0.0.1.example.org",
    ],
)
def test_a_token_never_goes_out_in_clear_or_nowhere(url: str) -> None:
    done = jitgate("sessions", JITGATE_API=url, JITGATE_TOKEN=TOKEN)
    assert done.code == 2
    assert "hunter2" not in done.err
    done = jitgate("sessions", JITGATE_TOKEN_URL=url, **CLIENT)
    assert done.code == 2
    assert done.err.startswith("error: JITGATE_TOKEN_URL ")


def test_nobody_there_is_exit_code_3() -> None:
    url = f"https://127.0.0.1:{free_port()}"
    for command in (["sessions"], ["replay", "0" * 32]):
        done = jitgate(*command, JITGATE_API=url, JITGATE_TOKEN=TOKEN)
        assert done.code == 3
        assert done.err.startswith(f"error: {url} can't be reached: ")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502, b"<html>bad gateway"),
        Answer(200, b"<html>hello"),
        Answer.of({"hello": 1}),
        Answer.of([1]),
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer.of({"message": "not here"}, 404),
    ],
)
def test_somebody_else_there_is_exit_code_3(answer: Answer) -> None:
    with Scripted(lambda _: answer) as server:
        done = jitgate("sessions", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
        assert len(server.asked) == 1
    assert done.code == 3
    assert "doesn't answer as a control plane" in done.err


def test_a_problem_is_told_with_its_code() -> None:
    answer = problem(403, "role_missing", "this needs \x1b[1ma role", errors=[{"message": "m"}, 7])
    with Scripted(lambda _: answer) as server:
        done = jitgate("sessions", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
    assert done.code == 1
    assert done.err == "error: this needs \\x1b[1ma role (role_missing)\n  m\n"
    assert TOKEN not in done.err


def test_a_problem_of_a_download_is_told_with_its_code() -> None:
    with Scripted(lambda _: problem(404, "recording_not_found")) as server:
        done = jitgate("replay", "0" * 32, JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
    assert (done.code, done.err) == (1, "error: no (recording_not_found)\n")


def test_pages_are_followed_up_to_the_limit() -> None:
    def script(asked: Asked) -> Answer:
        _, _, query = asked.path.partition("?")
        given = parse_qs(query)
        start = int(given.get("cursor", ["0"])[0])
        end = start + min(int(given["limit"][0]), 3)
        return Answer.of({"items": [{"id": str(n)} for n in range(start, end)], "next": str(end)})

    with Scripted(script) as server:
        done = jitgate(
            "sessions", "--limit", "7", "-o", "json", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN
        )
        assert [one["id"] for one in done.json] == list("0123456")
        assert len(server.asked) == 3
        done = jitgate("sessions", "--limit", "1", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
    assert "there are more; see --limit" in done.err


def test_a_decision_whose_answer_was_lost_is_sent_again_under_the_same_key() -> None:
    answers = [Answer(0), Answer.of({"id": "apr_1", "state": "approved"})]
    with Scripted(lambda _: answers.pop(0)) as server:
        done = jitgate("approve", "apr_1", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
        assert (done.code, done.out) == (0, "apr_1 is approved\n")
        first, second = server.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_other_requests_whose_answer_was_lost_are_not_sent_again() -> None:
    with Scripted(lambda _: Answer(0)) as server:
        done = jitgate("relay", "join-token", "r", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
        assert (done.code, len(server.asked)) == (3, 1)


def test_a_name_of_dots_is_no_way_up() -> None:
    with Scripted(nothing) as server:
        for name in ("..", ".", ""):
            done = jitgate("approvals", "show", name, JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
            assert done.code == 2
        jitgate("approvals", "show", "../a?b", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
        assert [one.path for one in server.asked] == ["/api/v1/approvals/..%2Fa%3Fb"]


def test_authorities_that_cannot_be_read_are_wrong_usage(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for file in (tmp_path / "missing.pem", broken):
        done = jitgate("sessions", "--ca", str(file), JITGATE_TOKEN=TOKEN)
        assert done.code == 2
        assert done.err.startswith(f"error: {file}: ")


def test_a_process_says_it_all_without_its_secrets() -> None:
    with Scripted(lambda _: problem(401, "token_expired")) as server:
        done = jitgate_process("whoami", JITGATE_API=server.url, JITGATE_TOKEN=TOKEN)
    assert (done.code, done.out, done.err) == (1, "", "error: no (token_expired)\n")


def test_the_command_loads_none_of_the_control_planes_domains() -> None:
    code = (
        "import sys, control_plane.cli.app\n"
        "allowed = ('control_plane.cli', 'control_plane.recordings.transcript', "
        "'control_plane.recordings', 'control_plane')\n"
        "ours = {n for n in sys.modules if n.split('.')[0] in ('control_plane', 'data_plane')}\n"
        "print(sorted(n for n in ours if n not in allowed and not n.startswith(allowed[:2])))\n"
        "print(sorted({'sqlalchemy', 'fastapi', 'grpc', 'pydantic'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n[]\n"
