#!/bin/sh
# Installs what the tests start for themselves, PostgreSQL and Slurm, and of these only what is missing (Debian, Ubuntu).
set -eu
PATH=$PATH:/usr/sbin:/sbin
has() { command -v "$1" > /dev/null 2>&1; }
missing=
has psql && ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing="$missing postgresql"
has sbatch && has slurmctld && has slurmd || missing="$missing slurm-wlm"
has munged || missing="$missing munge"
if [ -z "$missing" ]; then
  echo 'services: PostgreSQL and Slurm are installed'
  exit 0
fi
refuse() {
  echo "services: cannot install$missing: $1; their tests are skipped" >&2
  exit 1
}
has apt-get || refuse 'there is no apt-get'
if [ "$(id -u)" = 0 ]; then
  root=
elif has sudo && sudo -n true 2> /dev/null; then
  root='sudo -n'
else
  refuse 'this needs root or sudo without a password'
fi
# RUNLEVEL=1 keeps the packages from starting services of their own.
install() { $root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends $missing; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ $root apt-get -qq update && install; } > "$log" 2>&1 || {
  tail -n 5 "$log" >&2
  refuse 'apt-get failed'
}
echo "services: installed$missing"
