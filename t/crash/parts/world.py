"""A running service under load, for rounds of harm: each harms it once, lets it come to rest and asks for the account."""
import os
import pathlib
import random
import shutil
import signal
import time

from lib.impetus import Impetus, alive, wait_until

from .account import HANG, Account, ask
from .board import Board
from .mail import EXTRA, Load, Peer


class World:
    def __init__(self, folder, seed, build, workers=2, clients=4, slow=0.004):
        self.rng, self.folder, self.failures = random.Random(seed), pathlib.Path(folder), []
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.board, self.peer = Board(self.folder / "board"), Peer(slow)
        self.mta = Impetus(self.folder / "mta", self.peer.port, workers=workers, build=build, as_user="nobody", extra=EXTRA,
                           env=dict(IMPETUS_FAULT_FILE=str(self.folder / "board")))
        self.mta.start()
        self.load = Load(self.mta.port, clients)
        self.account = Account(self.mta, self.peer, self.load.acked, self.load.sent)
        self.kept = set()

    def fail(self, what):
        self.failures.append(what)
        print("FAILED: " + what, flush=True)
        if "KEEP" not in self.kept and os.environ.get("IMPETUS_CRASH_KEEP"):
            self.kept.add("KEEP")
            to = pathlib.Path(os.environ["IMPETUS_CRASH_KEEP"]) / ("failed-" + self.folder.name)
            shutil.copytree(self.mta.logs, to, dirs_exist_ok=True)
            self.keep_spool(to / "spool")
            (to / "console").write_text("".join(self.mta.ctl(*words, check=False) for words in (
                ("summary",), ("mailq",), ("indoubt", "list"), ("domain", "back.example.com"))))

    def keep_spool(self, to):
        """As it is while the service runs: files may come and go under the copy."""
        try:
            shutil.copytree(self.mta.spool, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("control"))
        except shutil.Error as e:
            print("not all of the spool is kept: %s" % str(e)[:200], flush=True)

    # ---- harm

    def pids(self, role):
        return [p for p, _ in self.mta.children(role)]

    def kill(self, role):
        """One process of that role at this instant, or all at once."""
        if role == "all":
            self.mta.kill_all()
        elif role == "master":
            self.kill_master()
        else:
            pids = self.pids(role)
            if not pids:
                return False
            try:
                os.kill(self.rng.choice(pids), signal.SIGKILL)
            except ProcessLookupError:                      # it went by itself just now
                return False
        return True

    def kill_master(self):
        pids = self.pids(None)
        os.kill(self.mta.proc.pid, signal.SIGKILL)
        self.mta.proc.wait()
        self.orphans_end(pids)

    @staticmethod
    def orphans_end(pids):
        wait_until(lambda: not any(alive(p) for p in pids), 30, what="the children's end")

    def reload(self):
        if self.mta.proc.poll() is None:
            self.mta.proc.send_signal(signal.SIGHUP)

    def passed(self, rule, seconds):
        """Waits until the rule has hit, or the service is gone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.board.counts(rule)[1] and self.mta.proc.poll() is None:
            time.sleep(0.005)
        return self.board.counts(rule)[1] > 0

    # ---- and after it

    def down(self):
        return self.mta.proc.poll() is not None

    def start(self, workers=None, drop_index=False, wait=True):
        """After the end of everything: perhaps with more or fewer workers, perhaps without the map."""
        wait_until(lambda: self.mta.proc.poll() is not None, 30, what="the master's end")
        if workers:
            self.mta.rewrite(extra="workers = %d\n%s" % (workers, EXTRA))
        if drop_index:
            shutil.rmtree(self.mta.spool / "index", ignore_errors=True)
        self.mta.start(wait)

    def round(self, what):
        """The load pauses, the mail comes to rest, the account is asked for."""
        self.load.hold()
        try:
            wait_until(self.mta.answers, HANG, 0.02, "the banner after " + what)
            for w in self.account.settle(what):
                self.fail(w)
            for w in self.account.states(self.load.ids):
                self.fail("%s: %s" % (what, w))
        finally:
            self.load.go.set()

    def takes_mail(self, what):
        """Mail is accepted again."""
        had = len(self.load.acked)
        wait_until(lambda: len(self.load.acked) > had or self.down(), HANG, 0.01, "mail taken after " + what)

    def finish(self):
        """What was put off is let go; everything arrives; the service stops and its logs hold no alarm."""
        self.board.clear()
        self.load.end()
        self.peer.let_go = True
        try:
            wait_until(lambda: ask(self.mta, "ledger")["queued"] == 0, HANG, 0.1, "an empty queue")
        except AssertionError:
            self.fail("the queue does not drain: " + self.mta.ctl("mailq", check=False)[:1500])
        for w in self.account.settle("at the end"):
            self.fail(w)
        self.close()

    def close(self):
        try:
            self.mta.finish()
        except AssertionError as e:
            self.fail(str(e))
        self.peer.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self, why):
        """It hangs: its logs are shown, everything is ended."""
        self.fail("%s\n%s" % (why, "\n".join(self.mta.log("paniclog")[-25:])))
        self.load.stop.set()
        self.load.go.set()
        if not self.down():
            self.mta.kill_all()
        self.peer.close()
        if os.environ.get("IMPETUS_CRASH_KEEP"):
            shutil.copytree(self.folder, pathlib.Path(os.environ["IMPETUS_CRASH_KEEP"]) / self.folder.name, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("control"))
        shutil.rmtree(self.folder, ignore_errors=True)
