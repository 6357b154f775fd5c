#!/usr/bin/env bash
# See that the system's own programs are there which the tests or the benchmark run.
#
#   deploy/debian-packages.sh test|bench
#
# As root on Debian and its kin, what is missing is installed, and no server is started by
# that. Elsewhere it names what is missing, and fails only with CI=true: those tests skip.
set -euo pipefail

need=${1:?test or bench}
missing=()
command -v psql >/dev/null || missing+=(postgresql-client)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
if [ "$need" = bench ]; then
  command -v pgbouncer >/dev/null || missing+=(pgbouncer)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

say() { printf '%s\n' "packages: $*" >&2; }

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  say "missing, and not installed without root and apt-get: ${missing[*]}"
  say "what needs them is skipped"
  [ "${CI:-}" != true ]
  exit
fi

say "installing ${missing[*]}"
# No cluster of the package's own, and no service: the tests start servers of theirs.
clusters=/etc/postgresql-common/createcluster.d
if [ ! -e "$clusters/jitgate.conf" ]; then
  mkdir -p "$clusters"
  echo 'create_main_cluster = false' >"$clusters/jitgate.conf"
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
