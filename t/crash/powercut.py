#!/usr/bin/python3
"""powercut.py [--short] [--cuts N] [--seed S]: records every write, sync, rename, unlink and directory sync of a running
impetusd's spool (t/crash/record.c) under load, with deaths and reloads in it; cuts the power at N moments of the recording;
writes down what one of several disks would then hold (parts/disk.py), starts impetusd on it and asks for the account:
what was acknowledged is delivered, queued or bounced, and what arrived before and after the cut is named in doubt.

Prints its seed."""
import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import os
import signal
import time

from parts import pool
from parts.account import Account, HANG, ask
from parts.disk import FATES, Disk
from parts.mail import Peer
from parts.recording import EXTRA, Talk, events, record
from lib.impetus import ALARM, Impetus, wait_until

PER_RECORDING = 250
# Memory for a disk: what a cut leaves there is gone a second later.
FAST = "/dev/shm"


def harm(rng):
    """A worker's and a keeper's death, and a reload, while it is recorded."""
    def do(mta, load):
        for what in rng.sample(("worker", "keeper", "reload"), 3):
            time.sleep(rng.uniform(0.2, 0.5))
            if what == "reload":
                mta.proc.send_signal(signal.SIGHUP)
            else:
                pids = [p for p, _ in mta.children(what)]
                if pids:
                    os.kill(rng.choice(pids), signal.SIGKILL)
    return do


class Cuts:
    def __init__(self, folder, seed, share):
        self.folder, self.rng = folder, random.Random("%s-%s" % (seed, share[0]))
        self.part, self.of, self.cuts, self.recording = share
        self.counts, self.failures = collections.Counter(), []

    def run(self):
        log, root, ids, sent, total = self.recording
        every = sorted(random.Random(str(self.cuts)).sample(range(total // 100, total), min(self.cuts, total * 9 // 10)))
        mine = set(every[self.part::self.of])
        disks, talk = {k: Disk(k) for k in ("strict", "ext4")}, Talk(ids)
        for i, (op, ino, off, flags, path, data) in enumerate(events(log)):
            for d in disks.values():
                d.feed(op, ino, off, flags, path, data)
            talk.feed(op, ino, off, data)
            if i in mine:
                kind, fate = self.rng.choice(sorted(disks)), self.rng.choice(FATES)
                self.cut(i, disks[kind], root, fate, talk, sent)
                self.counts["harms"] += 1
                self.counts["%s disk, unsynced %s" % (kind, fate)] += 1
        return self.counts, self.failures

    def cut(self, i, disk, root, fate, talk, sent):
        with tempfile.TemporaryDirectory(prefix="impetus-cut-", dir=FAST) as name:
            peer, workers = Peer(), self.rng.choice((1, 1, 1, 2, 4))
            peer.let_go = True
            mta = Impetus(pathlib.Path(name) / "mta", peer.port, workers=workers, as_user="nobody", extra=EXTRA)
            disk.write(root, mta.spool, fate, self.rng)
            if os.geteuid() == 0:
                subprocess.run(["chown", "-R", "nobody", str(mta.spool)], check=True)
            drop = self.rng.random() < 0.05
            if drop:
                shutil.rmtree(mta.spool / "index", ignore_errors=True)
                self.counts["of these without the index"] += 1
            what = "cut %d (%s, %s, %d workers%s)" % (i, disk.kind, fate, workers, ", no index" if drop else "")
            account = Account(mta, peer, set(talk.acked), sent, set(talk.given))
            try:
                wrong = self.check(mta, account, what)
            except AssertionError as e:
                wrong = ["%s: %s" % (what, e)]
            if wrong:
                self.keep(mta, i)
                print("FAILED: " + "\n".join(wrong[:6] + mta.log("paniclog")[-12:]), flush=True)
            self.failures += wrong
            self.counts["acknowledged before the cuts"] += len(account.acked)
            self.counts["queued at the cuts and delivered after"] += sum(peer.got.values())
            self.counts["arrived before and after"] += len(account.twice())
            self.counts["named in doubt"] += len(account.doubts)
            if mta.proc is not None and mta.proc.poll() is None:
                mta.kill_all()
            peer.close()

    def check(self, mta, account, what):
        mta.start()
        wrong = account.settle(what)
        if self.rng.random() < 0.1:
            wait_until(lambda: ask(mta, "ledger")["queued"] == 0, HANG, 0.05, "an empty queue")
            self.counts["of these drained to the last"] += 1
            wrong += account.settle(what + ", drained")
        text = "\n".join(mta.log("paniclog")) + mta.stderr()
        wrong += ["%s: %s" % (what, line) for line in text.splitlines() if ALARM.search(line) or "damage" in line]
        return wrong

    @staticmethod
    def keep(mta, i):
        to = os.environ.get("IMPETUS_CRASH_KEEP")
        if to:
            shutil.copytree(mta.dir, pathlib.Path(to) / ("cut%d" % i), dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("control"))


def work(folder, seed, share):
    return Cuts(folder, seed, share).run()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--cuts", type=int)
    p.add_argument("--seed", type=int)
    p.add_argument("--jobs", type=int, default=pool.default_jobs())
    a = p.parse_args()
    seed, cuts = pool.seed_of(a.seed), a.cuts or (60 if a.short else 2000)
    print("seed %d, %d cuts" % (seed, cuts), flush=True)
    worst = 0
    with tempfile.TemporaryDirectory(prefix="impetus-power-") as top:
        os.chmod(top, 0o755)
        shares = []
        for n in range(max(1, cuts // PER_RECORDING)):
            rng = random.Random("%d-recording-%d" % (seed, n))
            log, root, ids, sent = record(pathlib.Path(top) / str(n), 400, harm(rng))
            total = sum(1 for _ in events(log))
            print("recording %d: %d events, %d messages" % (n, total, len(ids)), flush=True)
            each = cuts // max(1, cuts // PER_RECORDING)
            shares += [(part, a.jobs, each, (log, root, ids, sent, total)) for part in range(a.jobs)]
        worst = pool.run("power", seed, work, shares, a.jobs)
    sys.exit(worst)


if __name__ == "__main__":
    main()
