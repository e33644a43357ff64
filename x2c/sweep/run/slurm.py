"""A sweep on Slurm: an array of workers that run the queue's cells, and a watcher on the login node.

A worker that gets a signal, before preemption or the time limit, ends with a code for which the job's script, which
outlives the worker, requeues the job. Its cell waits in the sweep's queue meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from x2c.core.errors import UserError, exit_on_user_error
from x2c.core.files import digest
from x2c.core.machine import STORAGE
from x2c.core.stopping import install_signal_handlers
from x2c.sweep.plan.cells import Cell, Plan
from x2c.sweep.plan.devices import VARIABLE
from x2c.sweep.queue.factory import open_queue
from x2c.sweep.queue.pace import pause_after
from x2c.sweep.queue.queue import Queue
from x2c.sweep.queue.state import Snapshot
from x2c.sweep.queue.storage import shown
from x2c.sweep.run.cluster import Cluster, read_cluster
from x2c.sweep.run.factory import kind_of
from x2c.sweep.run.local import WATCH_SECONDS
from x2c.sweep.run.processes import storage_environment, worker_arguments, worker_environment
from x2c.sweep.run.worker_command import work_by
from x2c.sweep.show.tables import View, wide_console

SQUEUE_SECONDS = 10.0
"""Seconds between two calls of squeue: all users share the controller."""
ARRAY = 1000
"""Jobs per array: a controller takes 1001 unless its MaxArraySize says otherwise."""
SIGNAL = "USR1"
# Exit codes: 0, no cell waits; 75, 130 and death by SIGUSR1 or SIGTERM, asked to stop, or the database is unreachable;
# any other: a crash, or an error that may be this node's only (such as a missing mount), which is retried a few times.
# Only a job that Slurm sees running is requeued: a cancelled one is not.
# The tasks of an array are named one by one, since the array's own number means all of them.
BACK_INTO_THE_QUEUE = """
code=$?
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}
job=${{job:-$SLURM_JOB_ID}}
crashes={folder}/$job.crashes
again() {{
  # A controller that is restarted does not answer for a while.
  for pause in 0 5 15 30 60; do
    sleep $pause
    state=$(squeue --noheader --format=%T --jobs="$job") || continue
    [ "$state" = RUNNING ] || return
    echo "code $code: job $job goes back into the queue"
    scontrol requeue "$job" && return
  done
}}
case $code in
  0) ;;
  75 | 130 | 138 | 143) again ;;
  *)
    echo "$code" >> "$crashes"
    [ "$(wc -l < "$crashes")" -gt {crashes} ] || again
    ;;
esac
exit $code
"""


def run_on_slurm(
    plan: Plan,
    chosen: Sequence[Cell],
    storage: str | None,
    workers: int | None,
    arguments: Sequence[str],
    reports: Path | None,
    *,
    cluster_file: Path | None = None,
    detach: bool = False,
) -> int:
    """Enqueue the cells that are not done, submit workers, and watch until all have ended.

    Return 0 if every cell of `chosen` is done (with `detach`: if the jobs are submitted), else 1. Existing workers of
    the same command count. Raises UserError for an unusable storage or cluster.
    """
    began = time.time()
    cluster = read_cluster(cluster_file)
    wanted = workers or cluster.workers
    check_storage(storage, wanted)
    if plan.compute.processes > 1:
        raise UserError(
            f"compute.processes: expected 1 with --executor slurm, where each task is a worker; got {plan.compute.processes}; "
            "start workers with --executor local inside a job of your own"
        )
    folder = plan.runs.resolve() / "logs" / "slurm"
    if "%" in str(folder):
        raise UserError(
            f"--runs: expected a path without '%', which Slurm takes for a pattern; got {plan.runs}; rename it"
        )
    out, kind = wide_console(), kind_of(plan)
    out.print(kind.table(chosen))
    queue = open_queue(plan, storage, create=True)
    opened = queue.enqueue(chosen)
    left = max(queue.waiting(chosen), len(opened))
    if not left:
        return kind.conclude(queue, chosen, reports, began)
    line = worker_arguments(plan, chosen, arguments)
    name = f"x2c-{plan.sweep.name}-{digest([str(plan.runs.resolve()), queue.database, *line], 6)}"
    # sbatch passes it to the jobs.
    os.environ.update(storage_environment(storage))
    os.environ.update(exported(cluster))
    # From here on jobs are running, which requeue themselves.
    queue.patience_seconds = math.inf
    per_job = cluster.workers_per_job(plan.compute.workers_per_gpu)
    there = len(jobs(name))
    missing = math.ceil(min(wanted, left) / per_job) - there
    if missing > 0:
        submit(cluster, folder, name, line, missing, per_job)
    out.print(f"{max(missing, 0)} jobs submitted, {there} were there, as {name}; they write to {plan.runs}/logs/slurm/")
    out.print(f"they run by themselves; to stop them: scancel --name={name}")
    if detach:
        status = shlex.join(["python", "-m", "x2c.sweep", "status", *arguments])
        out.print(f"to see their progress: {status}", soft_wrap=True)
        return 0
    with View(plan, chosen, min(wanted, left), began) as view:
        watch(view, queue, name)
    return kind.conclude(queue, chosen, reports, began)


def check_storage(storage: str | None, workers: int) -> None:
    """Raise UserError if several machines would share an SQLite file."""
    if workers > 1 and (storage is None or storage.startswith("sqlite")):
        raise UserError(
            f"--storage: expected postgresql+psycopg://USER@HOST/DATABASE for {workers} workers on Slurm; got "
            f"{shown(storage) if storage else 'none, which is SQLite'}, which machines cannot share safely; give one, or --workers 1"
        )


def submit(cluster: Cluster, folder: Path, name: str, line: Sequence[str], count: int, per_job: int) -> None:
    """Submit `count` jobs of `per_job` workers each, as arrays. Raises UserError if Slurm is missing or refuses."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = SlurmExecutor(folder=folder)
        executor.update_parameters(**parameters(cluster, folder, name, per_job))
        # The error holds sbatch's message; submitit prints it too.
        with contextlib.redirect_stderr(io.StringIO()):
            for start in range(0, count, ARRAY):
                executor.map_array(work_here, [list(line)] * min(ARRAY, count - start))
    except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise UserError(f"--executor slurm: expected sbatch to accept the jobs; {reason}") from None


def parameters(cluster: Cluster, folder: Path, name: str, per_job: int) -> dict[str, object]:
    """Return submitit's parameters for the job's script."""
    memory_mb = math.ceil(cluster.memory_gb * per_job * 1024)
    exports = [f"export {key}={shlex.quote(value)}" for key, value in worker_environment().items()]
    # The script itself must outlive a signal to all of the job; the worker does not inherit a trap.
    trap = "trap : TERM USR1"
    # The worker must get the script's environment, whatever sbatch was told to export.
    exports.append("export SLURM_EXPORT_ENV=ALL")
    more = {"requeue": True, "signal": f"{SIGNAL}@{cluster.signal_seconds}", **cluster.sbatch}
    given = {
        "partition": cluster.partition,
        "gpus_per_node": cluster.gpus or None,
        "ntasks_per_node": per_job,
        "cpus_per_task": cluster.cpus,
        "mem": f"{memory_mb}M",
    }
    return {
        "job_name": name,
        # submitit's own option would limit how many run at a time.
        "array_parallelism": ARRAY,
        "time": cluster.minutes,
        "stderr_to_stdout": True,
        "additional_parameters": more,
        "setup": [trap, *exports, *cluster.setup],
        "teardown": [BACK_INTO_THE_QUEUE.format(folder=shlex.quote(str(folder)), crashes=cluster.crashes)],
        **{key: value for key, value in given.items() if value is not None},
    }


def exported(cluster: Cluster) -> dict[str, str]:
    """Return sbatch's export option for the database, if a site or cluster file keeps the environment out of jobs."""
    # If both are set, sbatch follows the environment.
    names = os.environ.get("SBATCH_EXPORT", str(cluster.sbatch.get("export", "ALL"))).split(",")
    if "ALL" in names or STORAGE not in os.environ:
        return {}
    return {"SBATCH_EXPORT": ",".join([*(name for name in names if name not in ("NONE", "NIL", STORAGE)), STORAGE])}


def work_here(line: Sequence[str]) -> None:
    """Run a worker in a job. Ends the process with the worker's exit code."""
    install_signal_handlers()
    os.environ.update(own_device(os.environ))
    exit_on_user_error(lambda: work_by(line))


def own_device(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the GPU of this worker among those that Slurm gave the job; several workers take them in turn."""
    visible = [key for key in environment.get(VARIABLE, "").split(",") if key]
    if not visible or environment.get("SLURM_NTASKS", "1") == "1":
        return {}
    return {VARIABLE: visible[int(environment["SLURM_LOCALID"]) % len(visible)]}


def jobs(name: str) -> list[str]:
    """Return the state of every job of that name that waits or runs and, if it waits, the reason.

    Raises UserError if Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--name={name}", "--format=%T %r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        raise UserError(
            "--executor slurm: expected Slurm's commands; squeue is not here; use a login node, or --executor local"
        ) from None
    if done.returncode:
        raise UserError(f"--executor slurm: expected that squeue lists jobs; {' '.join(done.stderr.split())}")
    return [line.strip().lower().removesuffix(" none") for line in done.stdout.splitlines()]


def watch(view: View, queue: Queue, name: str) -> None:
    """Refresh the view until every cell has ended, or no job is left. Jobs that have no cell left are cancelled."""
    said, looked = "", -math.inf
    while True:
        began = time.monotonic()
        view.cells = queue.current(view.cells)
        view.update()
        if all(map(_ended, view.shots.values())) and not queue.waiting(view.cells):
            subprocess.run(["scancel", "--quiet", f"--name={name}", f"--user={os.getuid()}", "--state=PENDING"])
            return
        if time.monotonic() - looked >= SQUEUE_SECONDS:
            looked = time.monotonic()
            states = _jobs_or_none(name)
            if states == []:
                view.update()
                return
            summary = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states or ()).items()))
            if summary not in ("", said):
                view.note(f"jobs: {summary}")
                said = summary
        time.sleep(pause_after(began, WATCH_SECONDS))


def _ended(shot: Snapshot) -> bool:
    """Whether a cell has ended; a failed one is put back before its worker releases it, or never."""
    return shot.state in ("done", "pruned") or (shot.state == "failed" and shot.silence is None)


def _jobs_or_none(name: str) -> list[str] | None:
    """Return the jobs; None if Slurm does not answer now: its controller may be back soon."""
    try:
        return jobs(name)
    except UserError:
        return None
