#!/bin/bash
# A SLURM cluster of two nodes on this machine, with accounting. It needs root and Debian's packages:
#   apt-get install slurm-wlm slurmdbd munge mariadb-server
#   tests/slurm/cluster.sh start DIR    # DIR takes all that the daemons write; users mysql and munge must get there
#   export SLURM_CONF=DIR/slurm.conf    # sinfo, sbatch and srun find the cluster by it
#   tests/slurm/cluster.sh stop DIR     # ends jobs and daemons, and removes DIR
set -euo pipefail

here=$(dirname "$(realpath "$0")")
command=$1 dir=$(realpath "$2")
export SLURM_CONF=$dir/slurm.conf

# The nodes' names lead to this machine: the tasks of a step meet at the name of its first node.
names='127.0.0.1 n1 n2 # tests/slurm'

await() { # Repeat a command until it succeeds, for a minute.
    for _ in $(seq 120); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done
    echo "cluster.sh: gave up waiting for: $*" >&2
    return 1
}

gone() { ! grep -q '^State:\s*[^Z]' "/proc/$1/status"; } # a container may leave a process that has ended as a zombie

nodes_idle() { [ "$(sinfo --noheader --states=idle --format=%D --partition=low)" = 2 ]; }

no_jobs() { [ -z "$(squeue --noheader)" ]; }

steps() { # The daemons of this cluster's steps. That of a node which went down tries for 45 minutes to tell of its end.
    for pid in $(pgrep -x slurmstepd); do
        ! grep -qzxF "SLURM_CONF=$SLURM_CONF" "/proc/$pid/environ" || echo "$pid"
    done
}

start() {
    mkdir -p "$dir"/{state,munge,database}
    chmod a+rx "$dir"
    chown munge "$dir/munge"
    chown mysql "$dir/database"
    for file in slurm.conf slurmdbd.conf; do
        sed "s|DIR|$dir|g; s|HOST|$(hostname -s)|g" "$here/$file" > "$dir/$file"
    done
    chmod 600 "$dir/slurmdbd.conf" # slurmdbd refuses one that others may read
    echo CgroupPlugin=cgroup/v1 > "$dir/cgroup.conf" # it is loaded, though nothing here uses cgroups
    grep -qxF "$names" /etc/hosts || echo "$names" >> /etc/hosts

    runuser -u munge -- munged --socket="$dir/munge/socket" --pid-file="$dir/munge/munged.pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    mariadb-install-db --user=mysql --datadir="$dir/database" >"$dir/mariadb.log"
    mariadbd --no-defaults --user=mysql --datadir="$dir/database" --socket="$dir/database/socket" --port=13406 \
        --bind-address=127.0.0.1 --skip-grant-tables --pid-file="$dir/database/mariadbd.pid" >>"$dir/mariadb.log" 2>&1 &
    await mariadb-admin --socket="$dir/database/socket" ping
    slurmdbd
    await sacctmgr --immediate add cluster humanseg
    slurmctld
    slurmd -N n1
    slurmd -N n2
    await nodes_idle
}

stop() {
    scancel --user="$(id -un)" || true
    await no_jobs || true
    for file in "$dir"/{slurmd-n1,slurmd-n2,slurmctld,slurmdbd,munge/munged,database/mariadbd}.pid; do
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || true
        await gone "$pid"
    done
    for pid in $(steps); do
        pkill -KILL --parent "$pid" || true
        kill -KILL "$pid"
        await gone "$pid"
    done
    others=$(grep -vxF "$names" /etc/hosts)
    echo "$others" > /etc/hosts # not by `sed -i`: in a container the file can't be replaced
    rm -r "$dir"
}

"$command"
