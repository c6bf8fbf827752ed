#!/usr/bin/env bash
# Installs Slurm and Munge through apt-get if they are missing. The tests of job arrays need them.
set -euo pipefail
export PATH="$PATH:/usr/sbin"
if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null && command -v munged >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "Slurm is missing, and there is no apt-get to install it: the tests of job arrays will be skipped" >&2
  exit 0
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo)
fi
echo "installing slurm-wlm and munge" >&2
"${as_root[@]}" apt-get update --quiet >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends slurm-wlm munge >&2
