#!/usr/bin/env bash
# A real SLURM on this one machine, for tests: munged, slurmctld and two virtual nodes of two cores
# and a pretended GPU each. Needs root and Debian's slurm-wlm and munge (installed, not running).
#
#   start_slurm.sh FOLDER    keys, state, logs and pids lie there; a SLURM that runs from it is kept
#   stop_slurm.sh FOLDER
#
# The only thing written elsewhere are two links in /etc/slurm, because job steps of Snakemake look
# for SLURM's configuration nowhere else (they drop SLURM_CONF); a machine with a SLURM of its own,
# that is with files there, is left alone.
set -euo pipefail

folder=$(mkdir -p "${1:?usage: start_slurm.sh FOLDER}" && cd "$1" && pwd)
nodes="node1 node2"
port=${SLURM_TEST_PORT:-27010}

for program in munged slurmctld slurmd sinfo; do
    command -v "$program" > /dev/null || { echo "$program not found: apt-get install slurm-wlm munge" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "start_slurm.sh: slurmctld and slurmd are started as root; you are $(id -un)" >&2; exit 1; }
for name in slurm.conf gres.conf; do
    link=/etc/slurm/$name
    if [ -e "$link" ] && [ "$(readlink -f "$link")" != "$folder/$name" ]; then
        echo "$link is of another SLURM: stop that and remove it first" >&2
        exit 1
    fi
done

runs() { # pid file
    [ -s "$1" ] && kill -0 "$(cat "$1")" 2> /dev/null
}

mkdir -p /etc/slurm "$folder"/{state,logs}
if ! runs "$folder/munged.pid"; then
    rm -f "$folder"/munge.socket*
    [ -s "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    munged --force --num-threads=2 --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/logs/munged.log" \
        --seed-file="$folder/munge.seed"
fi

# cred_expire: a job of a lost node starts again after as many seconds (default: two minutes).
# KillWait: seconds from SIGTERM to SIGKILL. config_overrides: nodes may have cores that are not.
if ! runs "$folder/slurmctld.pid"; then
    cat > "$folder/slurm.conf" << CONFIG
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/logs/slurmctld.log
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/logs/%n.log
SlurmdSpoolDir=$folder/state/%n
StateSaveLocation=$folder/state
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=20
MinJobAge=600
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
PartitionName=main Nodes=${nodes// /,} Default=YES MaxTime=60 State=UP
CONFIG
    : > "$folder/gres.conf"
    number=0
    for node in $nodes; do
        number=$((number + 1))
        echo "NodeName=$node NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((port + number))" \
            "CPUs=2 RealMemory=8000 Gres=gpu:1 State=UNKNOWN" >> "$folder/slurm.conf"
        echo "NodeName=$node Name=gpu File=/dev/null" >> "$folder/gres.conf"
    done
    ln -sfn "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/
    slurmctld -c
fi
for node in $nodes; do
    mkdir -p "$folder/state/$node"
    runs "$folder/$node.pid" || slurmd -N "$node"
done

for _ in $(seq 60); do
    up=$(sinfo --noheader --Node --format=%T 2> /dev/null | grep --count -E "idle|alloc|mixed" || true)
    [ "$up" = "$(wc -w <<< "$nodes")" ] && break
    sleep 0.5
done
sinfo --Node --long
[ "$up" = "$(wc -w <<< "$nodes")" ] || { echo "SLURM did not come up; see $folder/logs" >&2; exit 1; }
