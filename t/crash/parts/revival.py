"""impetusd started on a spool that something has been done to while it was at rest (powercut.py, damage.py)."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from lib.impetus import ALARM, Impetus

from .mail import EXTRA, Peer

# Memory for a disk: what is done there is gone a second later.
FAST = "/dev/shm"


class Revival:
    """`mta` is not started yet: its spool is to be filled first."""

    def __init__(self, folder, workers):
        self.peer = Peer()
        self.peer.let_go = True
        self.mta = Impetus(pathlib.Path(folder) / "mta", self.peer.port, workers=workers, as_user="nobody", extra=EXTRA)

    def start(self):
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody", str(self.mta.spool)], check=True)
        self.mta.start()

    def said(self):
        return "\n".join(self.mta.log("paniclog")) + self.mta.stderr()

    def alarms(self):
        return [line for line in self.said().splitlines() if ALARM.search(line)]

    def judged(self, check, name, what):
        """What is wrong by check(); it is shown, and the folder kept under that name where that is wanted."""
        try:
            wrong = check()
        except AssertionError as e:
            wrong = [str(e)]
        if wrong:
            print("FAILED: %s\n  %s" % (what, "\n  ".join(wrong[:6] + self.mta.log("paniclog")[-14:])), flush=True)
            self.keep(name)
        return ["%s: %s" % (what, w) for w in wrong]

    def keep(self, name):
        to = os.environ.get("IMPETUS_CRASH_KEEP")
        if to:
            shutil.copytree(self.mta.dir, pathlib.Path(to) / name, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("control"))

    def end(self):
        if self.mta.proc is not None and self.mta.proc.poll() is None:
            self.mta.kill_all()
        self.peer.close()


@contextlib.contextmanager
def revival(workers):
    with tempfile.TemporaryDirectory(prefix="impetus-revival-", dir=FAST) as folder:
        r = Revival(folder, workers)
        try:
            yield r
        finally:
            r.end()
