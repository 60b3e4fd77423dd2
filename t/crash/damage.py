#!/usr/bin/python3
"""damage.py [--short] [--harms N] [--seed S]: damages bytes of a spool that is at rest with mail in it: bits flipped, sectors
zeroed, files cut, in the heads, records, bodies, tables of contents and seals of segments, in .ended and .toc files, and in
the index; then starts impetusd on it. Nothing ends in a loop, no altered body is sent, the ledger agrees; what is missing is
counted as damaged or set aside and named in the paniclog, and everything else is delivered.

Prints its seed."""
import argparse
import collections
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from parts import pool
from parts.account import HANG, Account, ask
from parts.mail import Load, Peer
from parts.recording import EXTRA
from lib.impetus import ALARM, Impetus, wait_until

PER_SPOOL = 40
FAST = "/dev/shm"
HEAD, SEAL = 4096, 2048
NAMED = re.compile(r"damage|no head|cannot be read|put aside|quarantin|set aside|vanished|built anew")
DEATHS = re.compile(r"(?:was ended by signal|has ended unasked|died)")


def spool_with_mail(folder, seed, clean):
    """Mail of every kind, most of it put off, in several segments; some already over, so that there are .ended files."""
    rng, peer = random.Random(seed), Peer()
    mta = Impetus(folder, peer.port, workers=2, as_user="nobody", extra=EXTRA)
    mta.start()
    load = Load(mta.port, clients=6, pause=0.001, last=160)
    wait_until(lambda: load.next >= 160, 90, 0.02, "the load's first part")
    load.hold()
    for role in ("worker", "keeper"):
        os.kill(rng.choice(mta.children(role))[0], signal.SIGKILL)
    wait_until(mta.answers, 30, 0.02, "the banner")
    account = Account(mta, peer, load.acked, load.sent)
    wrong = account.settle("before the damage")
    assert not wrong, wrong
    peer.defer_all = True
    load.more(260)
    wait_until(lambda: load.next >= 260, 90, 0.02, "the load's second part")
    load.hold()
    ask(mta, "mailq")
    if clean:
        mta.stop()
    else:
        mta.kill_all()
    load.end()
    peer.close()
    return load, {a for a in peer.got}


class Damage:
    """One harm to one spool."""

    def __init__(self, spool, rng):
        self.spool, self.rng = spool, rng
        self.segs = sorted((spool / "journal").glob("*.seg"))

    def used(self, path):
        data = path.read_bytes()
        return data, max(len(data.rstrip(b"\0")), 1)

    def flip(self, path, lo, hi):
        at = self.rng.randrange(lo, max(lo + 1, hi))
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1) or b"\0"
            f.seek(at)
            f.write(bytes([byte[0] ^ (1 << self.rng.randrange(8))]))
        return "%s: a bit at %d" % (path.name, at)

    def zero(self, path, lo, hi):
        at = self.rng.randrange(lo // 512, max(lo // 512 + 1, (hi + 511) // 512)) * 512
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(bytes(min(512, max(0, path.stat().st_size - at))))
        return "%s: the sector at %d" % (path.name, at)

    def full_segment(self):
        full = [s for s in self.segs if self.used(s)[1] > HEAD + 512]
        return self.rng.choice(full) if full else self.rng.choice(self.segs)

    def beside(self, suffix):
        files = [p for p in (self.spool / "journal").glob("*" + suffix) if p.stat().st_size]
        return self.rng.choice(files) if files else None

    def do(self, kind):
        where, how = kind.rsplit(" ", 1)
        harm = self.flip if how == "flipped" else self.zero
        if where == "record":
            path = self.full_segment()
            return harm(path, HEAD, self.used(path)[1])
        if where == "head":
            return harm(self.full_segment(), 0, 56)
        if where == "seal":
            return harm(self.full_segment(), SEAL, SEAL + 28)
        if where in (".ended", ".toc"):
            path = self.beside(where)
            return harm(path, 0, path.stat().st_size) if path else None
        if where == "index page":
            path = self.spool / "index/data.mdb"
            return harm(path, 8192, path.stat().st_size)
        if where == "index head":
            return harm(self.spool / "index/data.mdb", 0, 8192)
        if where == "segment":
            path = self.full_segment()
            os.truncate(path, self.rng.randrange(0, self.used(path)[1]))
            return "%s: cut to %d" % (path.name, path.stat().st_size)
        path = self.spool / "index/data.mdb"
        os.truncate(path, self.rng.randrange(0, path.stat().st_size))
        return "data.mdb: cut to %d" % path.stat().st_size


KINDS = ("record flipped", "record zeroed", "record flipped", "head flipped", "head zeroed", "seal flipped", "seal zeroed",
         ".ended flipped", ".ended zeroed", ".toc flipped", ".toc zeroed", "index page flipped", "index page zeroed",
         "index head flipped", "index head zeroed", "segment cut", "index cut")


class Damages:
    def __init__(self, folder, seed, kinds):
        self.rng, self.folder, self.kinds, self.seed = random.Random(seed), folder, kinds, seed
        self.counts, self.failures = collections.Counter(), []

    def run(self):
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        load, got = spool_with_mail(self.folder / "mta", self.seed, self.rng.random() < 0.5)
        for i, kind in enumerate(self.kinds):
            with tempfile.TemporaryDirectory(prefix="impetus-damage-", dir=FAST) as name:
                self.one(pathlib.Path(name), i, kind, load, got)
        return self.counts, self.failures

    def one(self, folder, i, kind, load, got):
        peer = Peer()
        peer.let_go = True
        mta = Impetus(folder / "mta", peer.port, workers=self.rng.choice((1, 2, 4, 8)), as_user="nobody", extra=EXTRA)
        shutil.rmtree(mta.spool)
        shutil.copytree(self.folder / "mta/spool", mta.spool)
        place = Damage(mta.spool, self.rng).do(kind)
        if place is None:
            self.counts["nothing there: " + kind] += 1
            peer.close()
            return
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody", str(mta.spool)], check=True)
        account = Account(mta, peer, load.acked, load.sent, got, damaged=True)
        try:
            wrong = self.check(mta, account, peer)
        except AssertionError as e:
            wrong = [str(e)]
        self.counts["harms"] += 1
        self.counts[kind] += 1
        if wrong:
            print("FAILED: %s (%s)\n  %s" % (kind, place, "\n  ".join(wrong[:6] + mta.log("paniclog")[-14:])), flush=True)
            self.keep(mta, i)
        self.failures += ["%s (%s): %s" % (kind, place, w) for w in wrong]
        if mta.proc is not None and mta.proc.poll() is None:
            mta.kill_all()
        peer.close()

    def check(self, mta, account, peer):
        mta.start()
        try:
            wait_until(lambda: self.over(mta), HANG, 0.05, "the rest of the mail")
        except AssertionError as e:
            return ["%s: %s, %s" % (e, mta.ctl("mailq", check=False)[:500], mta.ctl("--json", "ledger", check=False))]
        ledger, aside = ask(mta, "ledger"), ask(mta, "quarantine", "list")["messages"]
        panic = "\n".join(mta.log("paniclog")) + mta.stderr()
        missing = account.missing()
        lost = missing - {m["recipient"] for m in aside}
        wrong = []
        if ledger["difference"]:
            wrong.append("ledger: %s" % ledger)
        if peer.altered:
            wrong.append("altered: %s" % peer.altered[:5])
        if len(lost) > ledger["damaged"]:
            wrong.append("%d are missing and %d counted as damaged: %s" % (len(lost), ledger["damaged"], sorted(lost)[:5]))
        if missing and not NAMED.search(panic):
            wrong.append("%d are missing and nothing is named" % len(missing))
        wrong += [line for line in panic.splitlines() if ALARM.search(line)]
        deaths = len(DEATHS.findall(panic))
        self.counts["processes that died of it"] += deaths
        if deaths > 6:
            wrong.append("%d processes have died" % deaths)
        self.counts["recipients counted as damaged"] += ledger["damaged"]
        self.counts["set aside"] += len(aside)
        self.counts["delivered after the damage"] += sum(peer.got.values())
        return wrong

    @staticmethod
    def over(mta):
        """Only what was set aside is left, and no state is an illegal one."""
        try:
            queues = mta.json("mailq", "-l", "100000")["queues"]
        except (AssertionError, ValueError):
            return False
        return all(not q["active"] and not q["delayed"] and not q["in_work"] and not q["in_doubt"] for q in queues)

    @staticmethod
    def keep(mta, i):
        to = os.environ.get("IMPETUS_CRASH_KEEP")
        if to:
            shutil.copytree(mta.dir, pathlib.Path(to) / ("damage%d" % i), dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("control"))


def work(folder, seed, kinds):
    return Damages(folder, seed, kinds).run()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--harms", type=int)
    p.add_argument("--kind")
    p.add_argument("--seed", type=int)
    p.add_argument("--jobs", type=int, default=pool.default_jobs())
    a = p.parse_args()
    seed, n = pool.seed_of(a.seed), a.harms or (26 if a.short else 340)
    # Pages of the map have no checksum: what a damaged one costs is found by the long form, not asserted by the short one.
    known = tuple(k for k in KINDS if not k.startswith(("index page", "index cut"))) if a.short else KINDS
    kinds = [k for k in known if k.startswith(a.kind or "")]
    print("seed %d, %d harms of %d kinds" % (seed, n, len(kinds)), flush=True)
    sys.exit(pool.run("damage", seed, work, pool.shared([kinds[i % len(kinds)] for i in range(n)], PER_SPOOL, seed), a.jobs))


if __name__ == "__main__":
    main()
