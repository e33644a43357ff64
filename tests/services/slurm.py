"""A private Slurm of one node for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from services.processes import SEARCH, Daemon, free_ports, program

# Two devices that stand for GPUs: Slurm only counts them and names them to jobs.
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
# `rush` takes the node from jobs of `main`, which get SIGTERM and 30 seconds, and are queued again.
CONFIGURATION = """
ClusterName=x2c
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
DefMemPerCPU=500
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=20000 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES PriorityTier=1 GraceTime=30 State=UP
PartitionName=rush Nodes={host} PriorityTier=2 PreemptMode=OFF State=UP
"""


class Slurm:
    """Controller, node and munge of its own, on free ports, with all files in a temporary folder."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="x2c-slurm-"))
        # munge wants to be reached by everyone and written to by its owner alone.
        self._folder.chmod(0o755)
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        self._daemons: list[Daemon] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs for its Slurm commands to mean this one."""
        return {"SLURM_CONF": str(self._folder / "slurm.conf"), "PATH": SEARCH}

    def command(self, *words: str) -> str:
        """What a Slurm command prints. Raises CalledProcessError where it fails."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout

    def jobs(self) -> dict[str, str]:
        """The state of every job that waits or runs, by its id (`7` or `7_0`)."""
        lines = self.command("squeue", "--noheader", "--array", "--format=%i %T").split("\n")
        return dict(line.split() for line in lines if line)

    def cancel_all(self) -> None:
        """Cancel every job and wait until they are gone."""
        self.command("scancel", "--quiet", "--user=root")
        deadline = time.monotonic() + 30
        while self.jobs():
            assert time.monotonic() < deadline, self.jobs()
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and remove its files."""
        if len(self._daemons) == 3:
            self.cancel_all()
        for daemon in reversed(self._daemons):
            daemon.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {name: self._folder / f"munge.{name}" for name in ("socket", "key", "log", "pid", "seed")}
        options = [
            f"--{'key' if name == 'key' else name}-file={path}" for name, path in files.items() if name != "socket"
        ]
        self._daemon(["munged", "--foreground", f"--socket={files['socket']}", *options]).wait_until(
            files["socket"].exists
        )
        host = socket.gethostname().partition(".")[0]
        controller_port, node_port = free_ports(2)
        (self._folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=host, folder=self._folder, controller_port=controller_port, node_port=node_port)
        )
        (self._folder / "gres.conf").write_text(GPUS)
        self._daemon(["slurmctld", "-D", "-c"])
        self._daemon(["slurmd", "-D", "-N", host]).wait_until(self._idle)

    def _daemon(self, command: list[str]) -> Daemon:
        path = program(command[0])
        assert path is not None
        daemon = Daemon([path, *command[1:]], self._folder / f"{command[0]}.log", environment=self.environment)
        self._daemons.append(daemon)
        return daemon

    def _idle(self) -> bool:
        try:
            return "idle" in self.command("sinfo", "--noheader", "--format=%t")
        except subprocess.CalledProcessError:
            return False


@pytest.fixture(scope="session")
def _slurm() -> Iterator[Slurm]:
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}); `make services` installs it")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root; this is another user")
    running = Slurm()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def slurm(_slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A Slurm of one node, with four cores and two devices that stand for GPUs, that this test has for itself; skips where it is not installed."""
    for name, value in _slurm.environment.items():
        monkeypatch.setenv(name, value)
    yield _slurm
    _slurm.cancel_all()
