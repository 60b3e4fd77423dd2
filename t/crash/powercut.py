#!/usr/bin/python3
"""powercut.py [--short] [--cuts N] [--seed S]: records every write, sync, rename, unlink and directory sync of a running
impetusd's spool (t/crash/record.c) under load, with deaths and reloads in it; cuts the power at N moments of the recording;
writes down what one of several disks would then hold (parts/disk.py), starts impetusd on it and asks for the account:
what was acknowledged is delivered, queued or bounced, and what arrived before and after the cut is named in doubt.

Prints its seed."""
import collections
import pathlib
import random
import shutil
import sys
import tempfile
import os
import signal
import time

from parts import pool
from parts.account import Account, HANG, ask
from parts.disk import FATES, Disk
from parts.recording import Talk, events, record
from parts.revival import revival
from lib.impetus import wait_until

PER_RECORDING = 250


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
        workers = self.rng.choice((1, 1, 1, 2, 4))
        with revival(workers) as r:
            disk.write(root, r.mta.spool, fate, self.rng)
            drop = self.rng.random() < 0.05
            if drop:
                shutil.rmtree(r.mta.spool / "index", ignore_errors=True)
                self.counts["of these without the index"] += 1
            what = "cut %d (%s, %s, %d workers%s)" % (i, disk.kind, fate, workers, ", no index" if drop else "")
            account = Account(r.mta, r.peer, set(talk.acked), sent, set(talk.given))
            self.failures += r.judged(lambda: self.check(r, account), "cut%d" % i, what)
            self.counts["acknowledged before the cuts"] += len(account.acked)
            self.counts["queued at the cuts and delivered after"] += sum(r.peer.got.values())
            self.counts["arrived before and after"] += len(account.twice())
            self.counts["named in doubt"] += len(account.doubts)

    def check(self, r, account):
        r.start()
        wrong = account.settle("after it")
        if self.rng.random() < 0.1:
            wait_until(lambda: ask(r.mta, "ledger")["queued"] == 0, HANG, 0.05, "an empty queue")
            self.counts["of these drained to the last"] += 1
            wrong += account.settle("drained")
        return wrong + r.alarms() + [line for line in r.said().splitlines() if "damage" in line]


def work(folder, seed, share):
    return Cuts(folder, seed, share).run()


def main():
    a = pool.options(cuts=int)
    seed, cuts = a.seed, a.cuts or (60 if a.short else 2000)
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
