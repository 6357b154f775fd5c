"""``python -m control_plane.cli`` is ``jitgate``."""

from __future__ import annotations

from control_plane.cli import main

if __name__ == "__main__":
    main()
