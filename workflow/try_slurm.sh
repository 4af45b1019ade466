#!/bin/bash
# The sweep on Slurm, tried for real: one machine as a cluster of one node, three short trainings, each stopped in the
# middle in another way, and one that is left alone.  Exit status 0 says that the three went on from their checkpoints,
# that all have their records, and that the findings were made from them.
#
#   workflow/try_slurm.sh            # root, on Debian or Ubuntu with slurmctld, slurmd, slurm-client and munge
#   workflow/try_slurm.sh --install  # the same, and these packages by apt-get first
#
# Daemons, key, runs and outputs are in a temporary folder, which is removed.  PYTHON chooses another interpreter than
# the checkout's .venv/bin/python.  It takes some minutes.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
PACKAGES=(slurmctld slurmd slurm-client munge)
PATIENCE=${PATIENCE:-1800} # seconds for each thing that is waited for; a busy machine needs many

exec 3>&2 # where errors go, also from within conditions that are silenced
fail() {
    echo "error: $*" >&3
    exit 1
}

# -- what must be here ------------------------------------------------------------------------------------------------
[ $# -eq 0 ] || [ "$*" = --install ] || fail "unknown option '$*': the only one is --install"
[ "$(id -u)" = 0 ] || fail "Slurm's daemons start jobs for other users: run this as root"
if [ "${1:-}" = --install ]; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends "${PACKAGES[@]}"; } >&2 ||
        fail "apt-get cannot install ${PACKAGES[*]}: what it said stands above"
fi
for program in slurmctld slurmd sbatch munged; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null ||
        fail "$program is not here: install the packages ${PACKAGES[*]}, or give --install"
done
export PATH=$PATH:/usr/sbin
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
"$PYTHON" -c "import snakemake, snakemake_executor_plugin_slurm" 2>/dev/null ||
    fail "$PYTHON has no snakemake with its plugin for Slurm: make .venv, or name another interpreter by PYTHON"

# -- the cluster ------------------------------------------------------------------------------------------------------
PLACE=$(mktemp -d)
chmod 755 "$PLACE" # munge's socket must be reachable
DAEMONS=()
SWEEP=

finish() {
    status=$?
    trap - EXIT INT TERM
    set +e
    if [ $status -ne 0 ]; then
        for log in "$PLACE"/sweep.log "$PLACE"/out/snakemake.log "$PLACE"/out/logs/*.log "$PLACE"/slurm*.log; do
            [ -s "$log" ] && echo "== the end of $(basename "$log")" && tail -n 25 "$log"
        done >&3
    fi
    [ -z "$SWEEP" ] || { kill -TERM "$SWEEP" && wait "$SWEEP"; } 2>/dev/null
    if [ ${#DAEMONS[@]} -eq 3 ]; then
        scancel --user "$(id -un)"
        for _ in {1..60}; do
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 1
        done
    fi 2>/dev/null
    for ((i = ${#DAEMONS[@]} - 1; i >= 0; i--)); do
        kill -TERM "${DAEMONS[i]}" 2>/dev/null
        wait "${DAEMONS[i]}" 2>/dev/null
    done
    rm -rf "$PLACE"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for WHAT COMMAND...: until the command succeeds.
wait_for() {
    local what=$1 end=$((SECONDS + PATIENCE))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not within $PATIENCE s"
        sleep 0.5
    done
}

HOST=$(hostname -s)
read -r CTLD_PORT SLURMD_PORT < <("$PYTHON" -c "
import socket
held = [socket.socket() for _ in range(2)]
for s in held:
    s.bind(('127.0.0.1', 0))
print(*(s.getsockname()[1] for s in held))")
export SLURM_CONF=$PLACE/slurm.conf
mkdir "$PLACE/state" "$PLACE/spool"
# The node is said to have four cores, so that all runs are under way together on any machine.
cat >"$SLURM_CONF" <<END
ClusterName=trial
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmdPort=$SLURMD_PORT
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$PLACE/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$PLACE/state
SlurmdSpoolDir=$PLACE/spool
SlurmctldPidFile=$PLACE/slurmctld.pid
SlurmdPidFile=$PLACE/slurmd.pid
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
# Snakemake's plugin clears SLURM_CONF before srun, which on a cluster is at its usual place.
mkdir "$PLACE/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$PLACE/bin/srun"
chmod +x "$PLACE/bin/srun"
export PATH=$PLACE/bin:$PATH
(umask 077 && head -c 1024 /dev/urandom >"$PLACE/munge.key")
munged --foreground --force --key-file="$PLACE/munge.key" --socket="$PLACE/munge.socket" \
    --pid-file="$PLACE/munged.pid" --seed-file="$PLACE/munge.seed" &>"$PLACE/munged.log" &
DAEMONS+=($!)
wait_for "munged" munge --no-input --socket="$PLACE/munge.socket"
slurmctld -D &>"$PLACE/slurmctld.log" &
DAEMONS+=($!)
slurmd -D &>"$PLACE/slurmd.log" &
DAEMONS+=($!)
node_idle() { [ "$(sinfo --noheader --format=%T)" = idle ]; }
wait_for "the node" node_idle
echo "Slurm $(sinfo --version | cut -d' ' -f2) works on $HOST"

# -- the sweep --------------------------------------------------------------------------------------------------------
# Two runs of one epoch: with two sessions they went on from a checkpoint that they wrote when they were stopped.
# `scontrol requeue` gives no time for that: the third run goes on from its last epoch's.  The fourth is one of the
# preset's own runs, so that there is a record from which a claim can be judged.
export PAPERLIB_RUNS=$PLACE/runs PYTHONPATH=$ROOT
cat >"$PLACE/trial.yaml" <<END
preset: smoke
common: {device: cpu, threads: 1, precision: float32}
groups:
  stopped: {depth: 38, batch_size: 8, seed: [0, 1], epochs: 1, train_images: 800}
  requeued: {depth: 38, batch_size: 8, seed: 2, epochs: 8, train_images: 100}
  judged: {arch: plain, depth: 20, seed: 3, schedule: constant}
END
cd "$ROOT"
"$PYTHON" - "$PLACE" <<'END'
import sys
from pathlib import Path

from paperlib.store.provenance import device_here
from paperlib.sweep import read
from paperlib.sweep.cost import Costs

place = Path(sys.argv[1])
# Stands for costs that were timed: nothing is predicted here.
made = Costs(host="none", device=device_here("cpu"), side_by_side=1, startup=60.0, per_image={"float32": (0.1, 0.0)})
made.save(place / "costs.json")
jobs = read(place / "trial.yaml").jobs()
(place / "runs.txt").write_text("".join(f"{job.name} {job.config.folder()}\n" for job in jobs))
END
mapfile -t RUNS <"$PLACE/runs.txt"

sweep() {
    exec "$PYTHON" -m paperlib sweep "$PLACE/trial.yaml" --out "$PLACE/out" --costs "$PLACE/costs.json" -- \
        --profile workflow/profiles/slurm --slurm-init-seconds-before-status-checks 5
}
sweep &>"$PLACE/sweep.log" &
SWEEP=$!

# of_run NUMBER: the number of Slurm's job that makes the run, once it is in the given state.
of_run() {
    squeue --noheader --states=R --format="%i %k" | awk -v run="${RUNS[$1]%% *}" '$0 ~ run {print $1}' | grep .
}
under_way() {
    kill -0 $SWEEP || fail "the sweep has ended"
    local sign=progress.json
    if [ "$1" = 2 ]; then sign=checkpoint.pt; fi
    [ -e "${RUNS[$1]#* }/$sign" ] && of_run "$1"
}
# As a user does, as pre-emption with a time of grace does, and as one without it does.
WAYS=("scancel" "scancel --signal=TERM" "scontrol requeue")
LEFT=(0 1 2)
stop_one() { # the first run under way of those that are left
    for i in "${!LEFT[@]}"; do
        if under_way "${LEFT[i]}" >/dev/null; then
            job=$(of_run "${LEFT[i]}") && ${WAYS[LEFT[i]]} "$job" &&
                echo "${RUNS[LEFT[i]]%% *}: ${WAYS[LEFT[i]]} $job" >&4 && unset "LEFT[i]" && return 0
        fi
    done
    return 1
}
exec 4>&1
while [ ${#LEFT[@]} -gt 0 ]; do
    wait_for "a run under way" stop_one
done
wait $SWEEP && status=0 || status=$?
SWEEP=
cat "$PLACE/sweep.log"
[ $status = 0 ] || fail "the sweep ended with status $status"

# -- what came out ----------------------------------------------------------------------------------------------------
"$PYTHON" - "$PLACE" <<'END' || fail "a run has no finished record with as many sessions as it should"
import sys
from pathlib import Path

from paperlib import records
from paperlib.sweep import read, state

place = Path(sys.argv[1])
good = True
for job in read(place / "trial.yaml").jobs():
    asked = 1 if job.groups == ("judged",) else 2
    found = state.look(job, place / "out")
    sessions = len(records.read(job.config.folder()).provenance.sessions) if found.status == "finished" else 0
    print(f"{job.name}: {found.status}, sessions: {sessions}")
    good = good and found.done and sessions == asked
sys.exit(not good)
END
grep -q "^F3a: " "$PLACE/out/findings.txt" || fail "there is no finding of F3a in findings.txt"
grep "^[A-Z0-9a-z]*: " "$PLACE/out/findings.txt" | sed "s|, $PLACE/.*|)|"
echo "Slurm: every run that was stopped went on from its checkpoint, and the findings are made"
