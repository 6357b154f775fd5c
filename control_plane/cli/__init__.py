"""The ``jitgate`` command: a client of the public REST API and of nothing else.

It imports none of the control plane's domains but :mod:`control_plane.recordings.transcript`,
which is pure, so what it shows is what the API gave and what a recording holds.
"""

from __future__ import annotations


def main() -> None:
    """Run ``jitgate`` with the process's arguments, and exit."""
    # Imported late: importing this package must not cost what the command costs.
    from control_plane.cli.app import app

    app()
