"""One MTA under test: a folder of scripts (t/bench/README.md has the contract), its processes in a cgroup of their own."""
import os
import pathlib
import re
import signal
import subprocess
import time

from . import base, meter


def mounts(kind, option=None):
    for line in open("/proc/mounts"):
        f = line.split()
        if f[2] == kind and (option is None or option in f[3].split(",")):
            return pathlib.Path(f[1])
    return None


class Cgroup:
    """CPU is counted in the v2 hierarchy; a memory limit needs its controller there, or the older hierarchy's."""

    def __init__(self, name):
        v2 = mounts("cgroup2")
        if v2 is None:
            raise SystemExit("bench: needs a writable cgroup v2 hierarchy")
        self.path = v2 / ("bench-%s-%d" % (name, os.getpid()))
        self.path.mkdir(exist_ok=True)
        self.memory = None
        v1 = mounts("cgroup", "memory")
        if "memory" in (v2 / "cgroup.subtree_control").read_text().split():
            self.memory, self.limit_file, self.used_file, self.none = self.path, "memory.max", "memory.current", "max"
        elif v1 is not None:
            self.memory, self.limit_file = v1 / self.path.name, "memory.limit_in_bytes"
            self.used_file, self.none = "memory.usage_in_bytes", "-1"
            self.memory.mkdir(exist_ok=True)

    def enter(self):
        for p in {self.path, self.memory} - {None}:
            (p / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self):
        return [int(x) for x in (self.path / "cgroup.procs").read_text().split()]

    def cpu(self):
        """Seconds of everything that ever ran here."""
        return int(re.search(r"usage_usec (\d+)", (self.path / "cpu.stat").read_text())[1]) / 1e6

    def limit(self, size):
        """size: bytes of memory with page cache, None: no limit. False if this machine cannot."""
        if self.memory is None:
            return False
        (self.memory / self.limit_file).write_text(self.none if size is None else str(size))
        return True

    def used(self):
        return int((self.memory / self.used_file).read_text())

    def remove(self):
        def gone():
            try:
                for p in {self.path, self.memory} - {None}:
                    if p.exists():
                        p.rmdir()
                return True
            except OSError:
                return False
        base.wait_until(gone, 5, 0.1)


class Peer:
    """with Peer(...) as p: wiped before and after, started by p.start()."""

    def __init__(self, name, mode="relay", sessions=200, env=None, port=base.PORT):
        self.name, self.dir, self.port = name, base.PEERS / name, port
        self.cgroup = Cgroup("%s-%d" % (name, port))
        self.env = {**os.environ, "SCRATCH": str(base.OUT), "P_LIB": str(base.PEERS / "lib.sh"), "P_PORT": str(port),
                    "P_SINK": str(base.SINK_PORT), "P_MODE": mode, "P_SESSIONS": str(sessions),
                    "P_CGROUP": str(self.cgroup.path), **(env or {})}

    def script(self, name, join=False, check=False):
        r = subprocess.run([str(self.dir / name)], env=self.env, preexec_fn=self.cgroup.enter if join else None,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if check and r.returncode:
            raise SystemExit("bench: %s/%s failed (%d)" % (self.name, name, r.returncode))
        return r.stdout

    def start(self):
        """Returns how many seconds it took until it greeted."""
        t0 = time.monotonic()
        self.script("start", join=True, check=True)
        return time.monotonic() - t0

    def stop(self):
        t0 = time.monotonic()
        self.script("stop")
        return time.monotonic() - t0

    def kill(self):
        """Everything at once, by SIGKILL."""
        pids = self.cgroup.pids()
        for p in pids:
            os.kill(p, signal.SIGSTOP)
        for p in pids:
            os.kill(p, signal.SIGKILL)
        base.wait_until(lambda: not self.cgroup.pids(), 30, 0.01)

    def cpu(self):
        return self.cgroup.cpu()

    def queued(self):
        return int(self.script("queue-count", check=True))

    def memory(self):
        return meter.memory(self.cgroup.pids())

    def disk(self):
        """Bytes of disk that the queue takes (allocated blocks)."""
        out = subprocess.run(["du", "-s", "--block-size=1", self.script("queue-dir").strip()], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True).stdout
        return int(out.split()[0])

    def __enter__(self):
        self.script("wipe")
        os.sync()
        return self

    def __exit__(self, *exc):
        self.stop()
        self.script("wipe")
        self.cgroup.remove()


def install(names, scratch=base.OUT):
    for name in names:
        env = dict(os.environ, SCRATCH=str(scratch), P_LIB=str(base.PEERS / "lib.sh"))
        subprocess.run([str(base.PEERS / name / "install")], check=True, env=env)
