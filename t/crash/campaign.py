#!/usr/bin/python3
"""campaign.py [--short] [--kills N] [--seed S]: kills processes of a running impetusd under load, at every named point of
the spool and at random moments, and asks each time what was promised:

  every message that was answered 250 is delivered;
  what arrived twice was named by `indoubt list` after the restart;
  that list is never longer than the outbound connections that were open at the kill;
  no body is altered; quarantine is empty; the ledger's difference is 0.

Prints its seed; the same seed gives the same kills (moments differ as the machine does). The last line counts kills."""
import argparse
import collections
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from lib import corpus                                      # noqa: E402
from lib.impetus import TOP, Impetus, alive, wait_until     # noqa: E402
from lib.smtp import ID, Client, Sink                       # noqa: E402

ROLES = ("worker", "keeper", "console", "master", "all")


def points():
    """The points at which a test build can be told to die, as the product's own list has them."""
    text = (TOP / "spool/spool_faults.h").read_text()
    return re.findall(r'X\("([a-z_.]+)"\)', text)


class Load:
    """Clients that send numbered messages and remember which were answered 250."""

    def __init__(self, port, clients=6):
        self.port, self.acked, self.stop, self.lock, self.next = port, set(), threading.Event(), threading.Lock(), 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.stop.is_set():
            try:
                with Client(self.port, timeout=30) as c:
                    c.greet()
                    for _ in range(50):
                        if self.stop.is_set():
                            break
                        self.one(c)
                        time.sleep(0.03)
            except (OSError, AssertionError, ValueError):
                time.sleep(0.05)

    def one(self, c):
        with self.lock:
            n = self.next
            self.next += 1
        code, _ = c.mail("s%d@source.test" % n, ["r%d@d%d.example.com" % (n, n % 7)], message(n))
        if code == 0:
            raise OSError("gone")
        if code == 250:
            with self.lock:
                self.acked.add(n)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(40)


def message(n):
    """Mostly a few KiB; now and then large enough for a segment of its own."""
    return b"Subject: %d\r\n\r\n" % n + (b"line %d of it\r\n.\r\n" % n) * (n % 800 if n % 40 else 20000)


class Campaign:
    def __init__(self, folder, seed, build):
        self.rng, self.failures, self.kills = random.Random(seed), [], 0
        self.lock, self.open, self.doubts, self.twice = threading.Lock(), 0, set(), 0
        self.sink = Sink(self.answer)
        self.mta = Impetus(folder, self.sink.port, workers=2, build=build, as_user="nobody",
                           extra="retry_interval = 1\nsegment_size = 1048576")
        self.mta.dir.chmod(0o777)       # whoever dies first leaves its mark there
        self.mta.start()
        self.load = Load(self.mta.port)

    def answer(self, stage, text, h):
        if stage == "mail":
            with self.lock:
                self.open += 1
                h.is_open = True
        elif stage == "dot":
            time.sleep(self.rng.random() * 0.004)

    def fail(self, what):
        self.failures.append(what)
        print("FAILED: " + what, flush=True)

    def connections(self):
        """Outbound connections that the sink has now."""
        port = ":%04X" % self.sink.port
        return sum(1 for line in open("/proc/net/tcp").read().splitlines()[1:]
                   if line.split()[1].endswith(port) and line.split()[3] == "01")

    def listed(self):
        """Ids in doubt as the console names them; the keeper may be away for a moment."""
        for _ in range(100):
            try:
                return {a["id"] for a in self.mta.json("indoubt", "list")["attempts"]}
            except (AssertionError, ValueError):
                time.sleep(0.1)
        self.fail("indoubt list is not answered")
        return set()

    def check_doubts(self, was_open, what):
        now = self.listed()
        new = now - self.doubts
        if len(new) > was_open:
            self.fail("%s: %d in doubt, %d connections were open" % (what, len(new), was_open))
        self.doubts |= now

    def at_random(self, role):
        time.sleep(self.rng.uniform(0.2, 0.6))
        was_open = self.connections()
        if role == "all":
            self.mta.kill_all()
        elif role == "master":
            pids = [p for p, _ in self.mta.children()]
            os.kill(self.mta.proc.pid, signal.SIGKILL)
            self.mta.proc.wait()
            wait_until(lambda: not any(alive(p) for p in pids), 15, what="the children's end")
        else:
            pids = [p for p, _ in self.mta.children(role)]
            if not pids:
                return
            pid = self.rng.choice(pids)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid), 10)
        if role in ("all", "master"):
            self.mta.start()
        self.kills += 1
        time.sleep(0.3)
        self.check_doubts(max(was_open, self.connections()) if role in ("all", "master", "worker") else was_open,
                          "%s killed" % role)

    def at_point(self, point):
        """A restart in which the first process that comes to this point for the N-th time dies there."""
        self.mta.stop()
        once = self.mta.dir / ("once.%d" % self.kills)
        self.mta.start(wait=False, IMPETUS_FAULT="%s=kill@%d" % (point, self.rng.choice((1, 2, 3))),
                       IMPETUS_FAULT_ONCE=str(once))
        end = time.monotonic() + 3
        while time.monotonic() < end and not once.exists() and self.mta.proc.poll() is None:
            time.sleep(0.02)
        if once.exists():
            self.kills += 1
        time.sleep(0.5)
        if self.mta.proc.poll() is not None:
            self.mta.start()
        wait_until(self.mta.answers, 20, what="the banner after a death at " + point)
        # The console is asked under a process that may still be told to die: a clean restart first.
        self.doubts |= self.listed()
        return once.exists()

    def finish(self):
        self.load.end()
        self.mta.stop()
        self.mta.start()

        def drained():
            try:
                return self.mta.json("ledger")["queued"] == 0
            except (AssertionError, ValueError):
                return False
        try:
            wait_until(drained, 90, 0.2, "an empty queue")
        except AssertionError:
            self.fail("the queue does not drain: " + self.mta.ctl("mailq", check=False)[:2000])
        self.doubts |= self.listed()
        self.verdict()
        self.mta.finish()
        self.sink.close()

    def verdict(self):
        got, ids = collections.Counter(), collections.defaultdict(set)
        for mail in self.sink.mails:
            n = int(re.match(r"s(\d+)@", mail.sender)[1]) if mail.sender else None
            if n is None:
                continue
            got[n] += 1
            ids[n].update(ID.findall(mail.data.split(b"Subject", 1)[0].decode())[:1])
            if corpus.without_trace(mail.data) != message(n):
                self.fail("message %d was altered" % n)
        for n in sorted(self.load.acked - set(got))[:10]:
            self.fail("message %d was answered 250 and never arrived" % n)
        for n, times in got.items():
            if times > 1:
                self.twice += 1
                if not ids[n] & self.doubts:
                    self.fail("message %d arrived %d times and was not named in doubt (%s)" % (n, times, ids[n]))
        ledger = self.mta.json("ledger")
        if ledger["difference"] != 0:
            self.fail("ledger: %s" % ledger)
        if self.mta.json("quarantine", "list")["messages"]:
            self.fail("something is in quarantine after kills alone")
        print("%d messages answered 250, %d arrived, %d of them twice, %d named in doubt, %d kills" %
              (len(self.load.acked), len(got), self.twice, len(self.doubts), self.kills), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--kills", type=int)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    a = p.parse_args()
    want = a.kills or (40 if a.short else 100)
    print("seed %d, %d kills" % (a.seed, want), flush=True)
    with tempfile.TemporaryDirectory(prefix="impetus-crash-") as folder:
        os.chmod(folder, 0o755)
        c = Campaign(folder + "/mta", a.seed, os.environ.get("IMPETUS_BUILD"))
        names = points()
        c.rng.shuffle(names)
        reached = 0
        try:
            for name in names[:want // 2] if a.short else names:
                reached += c.at_point(name)
            while c.kills < want:
                c.at_random(c.rng.choice(ROLES))
        except AssertionError as e:
            c.fail(str(e))
        c.finish()
    print("%d of %d named points reached" % (reached, len(names)))
    print("crash: %d passed, %d failed" % (c.kills, len(c.failures)))
    sys.exit(1 if c.failures or not c.kills else 0)


if __name__ == "__main__":
    main()
