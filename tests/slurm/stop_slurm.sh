#!/usr/bin/env bash
# Stop what start_slurm.sh started from the same folder: jobs, slurmd, slurmctld, munged.
set -euo pipefail

folder=$(cd "${1:?usage: stop_slurm.sh FOLDER}" && pwd)
[ "$(readlink -f /etc/slurm/slurm.conf)" = "$folder/slurm.conf" ] || { echo "no SLURM of $folder" >&2; exit 1; }

timeout 10 scancel --user=root --quiet || true
for name in node1 node2 slurmctld munged; do
    pid=$(cat "$folder/$name.pid" 2> /dev/null) || continue
    kill "$pid" 2> /dev/null || continue
    for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.2; done
done
rm /etc/slurm/slurm.conf /etc/slurm/gres.conf
