#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml into the two lock files, with hashes.
#
#   requirements.lock        everything: relay, control plane, demo, development
#   requirements-relay.lock  what a relay has installed, at the same versions, and nothing else
#
# Resolved on Python 3.11, the oldest supported; arguments go to pip-compile (--upgrade).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

# Only what the index publishes is locked: wheels that lie on this machine are not.
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
export CUSTOM_COMPILE_COMMAND="make lock"

compile() {
  "$python" -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
    --resolver=backtracking "$@" pyproject.toml
}

compile --all-extras --output-file=requirements.lock "$@"
compile --extra=relay --constraint=requirements.lock --output-file=requirements-relay.lock
