# SPDX-License-Identifier: GPL-3.0-or-later
"""A Slurm of one node for as long as a check takes: munged, slurmctld and slurmd in a folder of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
PATIENCE = 60.0

CONFIGURATION = """\
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=check Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A context in which jobs can be submitted.

    Parameters
    ----------
    folder
        For everything that its programs write; others must be able to look into it.
    cpus
        That the node claims to have.
    """

    def __init__(self, folder: Path, cpus: int) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            lack = f"{', '.join(missing)} not on PATH" if missing else "not root"
            raise SystemExit(f"check-slurm: {lack}; as root: apt-get install slurm-wlm munge")
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=folder, host=self._host, cpus=cpus, ports=_free_ports(2))
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        for name in ("state", "spool"):
            (folder / name).mkdir()
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Slurm":
        try:
            key = self.folder / "munge.key"
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
            where = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "log", "seed")}
            self._start(
                "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={where['socket']}",
                f"--pid-file={where['pid']}", f"--log-file={where['log']}", f"--seed-file={where['seed']}",
            )  # fmt: skip
            self._until("munged", lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", "-D", "-i", "-f", f"{self.folder}/slurm.conf")
            self._start("slurmd", "-D", "-N", self._host, "-f", f"{self.folder}/slurm.conf")
            self._until("the node", lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *words: str) -> str:
        """What one of Slurm's programs prints."""
        said = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return said.stdout + said.stderr

    def submit(self, *words: str) -> str:
        """The number of a new job."""
        said = self.ask("sbatch", "--parsable", *words).strip()
        if not said.isdecimal():
            raise RuntimeError(f"sbatch: {said}")
        return said

    def state(self, job: str) -> str:
        """What `scontrol` calls the state of a job: RUNNING, COMPLETED, PENDING."""
        fields = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return next((field[9:] for field in fields if field.startswith("JobState=")), "")

    def _start(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(words, env=self.environment, stdout=out, stderr=out, cwd=self.folder)
            )

    def _until(self, what: str, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not is_there():
            if time.monotonic() > end:
                logs = [path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.out")]
                raise RuntimeError("\n".join((f"{what} does not come up", *logs)))
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
