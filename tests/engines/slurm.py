"""A Slurm cluster of one machine for a test: munged, slurmctld and slurmd on free ports, all their state in one folder.

    python tests/engines/slurm.py FOLDER            # until Ctrl-C; prints the environment that its commands need

It wants Debian's slurmctld, slurmd, slurm-client and munge, and root. Cgroups are left alone, and no service of the machine
is touched. The accounting database that a real cluster has is stood in for by an `sacct` that asks the controller.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=5
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE OverTimeLimit=0 State=UP
"""

_SACCT = """\
#!{python}
# What submitit asks the accounting database, answered by the controller.
import re, subprocess, sys
print("JobID|State|NodeList")
for job in [word for flag, word in zip(sys.argv, sys.argv[1:]) if flag == "-j"]:
    found = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True).stdout
    for line in found.splitlines():
        say = dict(re.findall(r"(\\S+?)=(\\S*)", line))
        array = say.get("ArrayJobId")
        name = f"{{array}}_{{say['ArrayTaskId']}}" if array else say["JobId"]
        if re.fullmatch(r"[0-9_]+", name):
            print(f"{{name}}|{{say['JobState']}}|{{say.get('NodeList', '')}}")
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None where it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {missing[0]}: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "slurmd starts jobs for other users, so it wants root"


@contextmanager
def cluster(folder: Path, *, cpus: int = 2) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` and its like talk to a cluster that lives as long as the context."""
    folder = folder.resolve()
    for name in ("munge", "state", "spool", "bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name).chmod(0o755 if name != "munge" else 0o711)
    host = socket.gethostname().partition(".")[0]
    conf, key = folder / "slurm.conf", folder / "munge" / "key"
    conf.write_text(_CONF.format(host=host, ports=_free_ports(2), folder=folder, cpus=cpus))
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    sacct = folder / "bin" / "sacct"
    sacct.write_text(_SACCT.format(python=sys.executable))
    sacct.chmod(0o755)
    env = {"SLURM_CONF": str(conf), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    daemons = []
    try:
        munge = folder / "munge"
        parts = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
        options = [f"--{option}={munge / name}" for option, name in parts.items()]
        # --force: the folder may stand under one that others can write, such as /tmp.
        daemons.append(_start(["munged", "--foreground", "--force", *options], env, munge / "out"))
        _until(lambda: (munge / "socket").exists(), munge / "log", "munged")
        daemons.append(_start(["slurmctld", "-D", "-f", str(conf)], env, folder / "slurmctld.out"))
        daemons.append(_start(["slurmd", "-D", "-f", str(conf), "-N", host], env, folder / "slurmd.out"))
        _until(lambda: "idle" in _asked(["sinfo", "-h", "-o", "%t"], env), folder / "slurmctld.log", "slurmctld")
        yield env
    finally:
        _asked(["scancel", "--full", "--user=root"], env)
        _until(lambda: not _asked(["squeue", "-h"], env), folder / "slurmctld.log", "the queue", seconds=15, must=False)
        for daemon in reversed(daemons):
            _end(daemon)


def _start(command: list[str], env: dict[str, str], out: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as file:
        return subprocess.Popen(
            command, env={**os.environ, **env}, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _asked(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def _until(true: object, log: Path, what: str, *, seconds: float = 30, must: bool = True) -> None:
    assert callable(true)
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            if not must:
                return
            raise RuntimeError(f"{what} did not come up in {seconds:g} s; {log} ends:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


if __name__ == "__main__":
    if problem := why_not():
        sys.exit(problem)
    with cluster(Path(sys.argv[1])) as environment:
        print("\n".join(f"export {key}={value}" for key, value in environment.items()), flush=True)
        signal.pause()
