from pathlib import Path

import pytest

from data_plane.config import ConfigError, load

MINIMAL = """
[relay]
state_dir = "state"
[control_plane]
address = "127.0.0.1:8444"
ca = "ca.pem"
[listen.postgres]
port = 5433
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file_and_limits_have_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path, MINIMAL))
    assert config.state_dir == tmp_path / "state"
    assert config.control_plane.ca == tmp_path / "ca.pem"
    assert config.spool_dir == tmp_path / "state" / "spool"
    assert config.listen["postgres"].host == "127.0.0.1"
    assert config.limits.login_seconds == 30.0


def test_everything_can_be_set(tmp_path: Path) -> None:
    text = MINIMAL.replace('state_dir = "state"', 'state_dir = "state"\nhosts = ["db.internal"]')
    text += '[spool]\ndir = "/spool"\nmax_bytes = 5\ndurability = "disk"\n'
    text += "[limits]\nconnections = 7\nlogin_seconds = 2\n"
    config = load(written(tmp_path, text))
    assert config.hosts == ("db.internal",)
    assert config.spool_dir == Path("/spool")
    assert config.spool.durability == "disk"
    assert (config.limits.connections, config.limits.login_seconds) == (7, 2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("[relay]", "[relay"), "relay.toml"),
        (('state_dir = "state"', ""), "relay.state_dir: text is needed"),
        (('state_dir = "state"', 'state_dir = "s"\nhosts = "x"'), "relay.hosts"),
        (('state_dir = "state"', 'state_dir = "s"\ncolour = 1'), "relay.colour: no such setting"),
        (('ca = "ca.pem"', ""), "control_plane.ca: missing"),
        (('ca = "ca.pem"', "ca = 1"), "control_plane.ca: text is needed"),
        (("port = 5433", 'port = "x"'), "postgres.port: a number"),
        (("port = 5433", "port = true"), "postgres.port: a number"),
        (("port = 5433", "port = 1.5"), "postgres.port: a whole number"),
        (("port = 5433", "port = -1"), "postgres.port: a number"),
        (("[listen.postgres]\nport = 5433", ""), "listen: at least one"),
        (("[listen.postgres]\nport = 5433", "[listen]\npostgres = 1"), "postgres: a section"),
        (("port = 5433", "port = 5433\n[spools]"), "unknown section spools"),
        (("port = 5433", 'port = 5433\n[spool]\ndurability = "maybe"'), "spool.durability"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("[", r"\[")):
        load(written(tmp_path, MINIMAL.replace(*change)))
