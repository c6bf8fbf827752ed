#!/usr/bin/env bash
# Runs a Slurm cluster of two nodes, n1 and n2 with one processor each, on this machine:
# `tests/slurm.sh FOLDER`.
#
# All files are in FOLDER, with separate ports and a separate Munge, so a Slurm on the machine is
# not affected. When the cluster is up, the script prints `ready`. Programs find it through
# SLURM_CONF=FOLDER/slurm.conf.
# The script reads commands from standard input: `kill NODE` kills the node's daemon and everything
# that runs on it, as a power failure does; `start NODE` starts it again. At the end of its input
# everything stops, so the cluster never outlives the process that started it.
# Besides `main` there is a partition `closed`, which starts nothing.
set -euo pipefail
folder=$(realpath "$1")
export PATH="$PATH:/usr/sbin"
export SLURM_CONF="$folder/slurm.conf"
for program in munged slurmctld slurmd sbatch scontrol; do
  command -v "$program" >/dev/null || { echo "$program is missing; scripts/slurm.sh installs it" >&2; exit 1; }
done

# Three unused ports.
ports=()
while [ "${#ports[@]}" -lt 3 ]; do
  port=$((20000 + RANDOM % 10000))
  if [[ " ${ports[*]} " != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    ports+=("$port")
  fi
done
user=$(id -un)
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# Nodes have the processors given here, even if the machine has fewer.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Timeouts of seconds instead of the usual minutes.
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=1
SlurmdTimeout=5
KillWait=5
MessageTimeout=5
ReturnToService=2
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=1 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes=n1,n2 MaxTime=INFINITE State=DOWN
CONF
mkdir -p "$folder/state"
# Munge's socket must be accessible to all users.
chmod 755 "$folder"
(umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")

# Keeps standard input for this script.
daemons=()
run() {
  "$@" </dev/null >>"$folder/daemons.log" 2>&1 &
  daemons+=("$!")
  disown
}
start() { run env "TEST_NODE=$folder/$1" slurmd -D -N "$1"; }

# Kills a node: TEST_NODE marks its daemon and the daemons of its jobs; Slurm's own variables mark
# the jobs.
kill_node() {
  local environ pid
  for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/}
    pid=${pid%/environ}
    if [ "$pid" != "$$" ] && { tr '\0' '\n' <"$environ"; } 2>/dev/null | awk -v node="$1" -v folder="$folder" '
      $0 == "TEST_NODE=" folder "/" node { ours = 1 }
      $0 == "SLURM_CONF=" folder "/slurm.conf" { here = 1 }
      $0 == "SLURMD_NODENAME=" node { job = 1 }
      END { exit !(ours || (here && job)) }'; then
      kill -KILL "$pid" 2>/dev/null || true
    fi
  done
}

stop() {
  trap - EXIT
  kill_node n1
  kill_node n2
  kill -KILL "${daemons[@]}" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

run munged --foreground --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
for _ in $(seq 50); do
  [ -S "$folder/munge.socket" ] && break
  sleep 0.1
done
[ -S "$folder/munge.socket" ] || { cat "$folder/daemons.log" "$folder/munged.log" >&2; exit 1; }
run slurmctld -D -c
start n1
start n2
for _ in $(seq 50); do
  if [ "$(timeout 5 sinfo --noheader --partition=main --states=idle --format=%D 2>/dev/null)" = 2 ]; then
    echo ready
    while read -r word node; do
      case "$word $node" in
        "kill n1" | "kill n2") kill_node "$node" ;;
        "start n1" | "start n2") start "$node" ;;
        *) echo "$word $node: not understood" >&2 ;;
      esac
      echo done
    done
    exit 0
  fi
  sleep 0.2
done
echo "the cluster does not come up:" >&2
tail --lines=20 "$folder"/*.log >&2
exit 1
