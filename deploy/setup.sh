#!/usr/bin/env bash
# Make the virtual environment from the lock file, and install jitgate into it (editable).
#
#   deploy/setup.sh [DIRECTORY]     default: .venv
#
# Needs Python 3.11 or newer with pip (or ensurepip) and nothing else. Does nothing when the
# environment is already of this lock file. Settings of pip (PIP_*, proxies, certificates) are
# pip's own and pass through.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

say() { printf '%s\n' "setup: $*" >&2; }

# Two commands at once set up once.
mkdir -p .cache
if command -v flock >/dev/null; then
  exec 9>.cache/setup.lock
  flock 9
fi

stamp=$venv/.jitgate-setup
wanted=$(cat requirements.lock pyproject.toml deploy/setup.sh | cksum)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

usable='import sys
sys.exit(sys.version_info < (3, 11))'
find_python() {
  local name
  for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    # Run it: a name on PATH can be a launcher of a version that isn't there.
    if "$name" -c "$usable" >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return
    fi
  done
  say "Python 3.11 or newer is needed; set PYTHON to it (make PYTHON=/path/to/python3)"
  return 1
}

new_environment() {
  local python
  python=$(find_python)
  say "making $venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"
  rm -rf "$venv"
  if "$python" -c 'import ensurepip' >/dev/null 2>&1 && "$python" -m venv "$venv"; then
    return
  fi
  # Debian splits ensurepip off; then the interpreter's own pip brings pip into the environment.
  rm -rf "$venv"
  if "$python" -m venv --without-pip "$venv" &&
    "$python" -m pip --python "$venv/bin/python" install --quiet pip; then
    return
  fi
  rm -rf "$venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian's python3-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    "$python" -m venv "$venv" && return
  fi
  say "$python has neither ensurepip nor a pip that can fill another environment;"
  say "install python3-venv (Debian, Ubuntu) or python3-pip, and run this again"
  return 1
}

# The old environment is kept when only the lock changed: pip moves it to the new one.
"$venv/bin/python" -c "$usable" >/dev/null 2>&1 && "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
  new_environment
rm -f "$stamp"
say "installing from requirements.lock"
"$venv/bin/python" -m pip install --quiet --require-hashes --requirement requirements.lock
# setuptools warns about folders of the same names in the working directory: they are the same.
PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
"$venv/bin/python" -m pip check >/dev/null
printf '%s\n' "$wanted" >"$stamp"
say "ready"
