"""What SLURM tells: srun its tasks, in the environment variables of torchrun; `scontrol` why a job has to stop."""

import os
import re
import subprocess


def adopt() -> None:
    """Where srun has started this process and others, set torchrun's variables (RANK, WORLD_SIZE, ...) from SLURM's."""
    env = os.environ
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) <= 1 or "RANK" in env:
        return
    node, tasks = int(env["SLURM_NODEID"]), tasks_by_node(env["SLURM_STEP_TASKS_PER_NODE"])
    env |= {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": env["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": env["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks[node]),
    }
    env.setdefault("MASTER_ADDR", first_host(env["SLURM_STEP_NODELIST"]))
    own = int(env["SLURM_JOB_ID"]) + 997 * int(env.get("SLURM_STEP_ID", 0))  # each step of each job has its own port
    env.setdefault("MASTER_PORT", str(20000 + own % 20000))


def tasks_by_node(text: str) -> list[int]:
    """The number of tasks on each node: SLURM's `2(x3),1` is three nodes with two tasks and one node with one."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in parts for _ in range(int(times or 1))]


def first_host(nodes: str) -> str:
    """The first host of a list in SLURM's short form: `node07` of `node[07-09,12],other`."""
    prefix, number = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes).groups()
    return prefix + (number or "")


def preempts() -> bool:
    """Whether SLURM takes this job's nodes for another job. It sends SIGTERM to a job that is cancelled as well."""
    env = os.environ
    if "SLURM_JOB_ID" not in env:
        return False
    array = env.get("SLURM_ARRAY_JOB_ID")  # that number alone would mean all jobs of the array
    job = f"{array}_{env['SLURM_ARRAY_TASK_ID']}" if array else env["SLURM_JOB_ID"]
    told = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, timeout=60)
    return is_preempted(told.stdout)


def is_preempted(shown: str) -> bool:
    """Whether `scontrol show job` shows a job that runs, and has been told that it is pre-empted."""
    facts = dict(fact.partition("=")[::2] for fact in shown.split())
    return facts.get("JobState") == "RUNNING" and facts.get("PreemptTime", "None") != "None"
