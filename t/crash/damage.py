#!/usr/bin/python3
"""damage.py [--short] [--harms N] [--seed S]: damages bytes of a spool that is at rest with mail in it: bits flipped, sectors
zeroed, files cut, in the heads, records, bodies, tables of contents and seals of segments, in .ended and .toc files, and in
the index; then starts impetusd on it. Nothing ends in a loop, no altered body is sent, the ledger agrees; what is missing is
counted as damaged or set aside and named in the paniclog, and everything else is delivered.

Prints its seed."""
import collections
import os
import random
import re
import shutil
import signal
import sys

from parts import pool
from parts.account import HANG, Account, ask
from parts.mail import EXTRA, Load, Peer
from parts.revival import revival
from lib.impetus import Impetus, wait_until

PER_SPOOL = 40
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
            with revival(self.rng.choice((1, 2, 4, 8))) as r:
                self.one(r, i, kind, load, got)
        return self.counts, self.failures

    def one(self, r, i, kind, load, got):
        shutil.rmtree(r.mta.spool)
        shutil.copytree(self.folder / "mta/spool", r.mta.spool)
        place = Damage(r.mta.spool, self.rng).do(kind)
        if place is None:
            self.counts["nothing there: " + kind] += 1
            return
        account = Account(r.mta, r.peer, load.acked, load.sent, got, damaged=True)
        self.failures += r.judged(lambda: self.check(r, account), "damage%d" % i, "%s (%s)" % (kind, place))
        self.counts["harms"] += 1
        self.counts[kind] += 1

    def check(self, r, account):
        mta, peer = r.mta, r.peer
        r.start()
        try:
            wait_until(lambda: self.over(mta), HANG, 0.05, "the rest of the mail")
        except AssertionError as e:
            return ["%s: %s, %s" % (e, mta.ctl("mailq", check=False)[:500], mta.ctl("--json", "ledger", check=False))]
        ledger, aside = ask(mta, "ledger"), ask(mta, "quarantine", "list")["messages"]
        panic = r.said()
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
        wrong += r.alarms()
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


def work(folder, seed, kinds):
    return Damages(folder, seed, kinds).run()


def main():
    a = pool.options(harms=int, kind=str)
    n = a.harms or (26 if a.short else 340)
    kinds = [k for k in KINDS if k.startswith(a.kind or "")]
    print("seed %d, %d harms of %d kinds" % (a.seed, n, len(kinds)), flush=True)
    sys.exit(pool.run("damage", a.seed, work, pool.shared([kinds[i % len(kinds)] for i in range(n)], PER_SPOOL, a.seed), a.jobs))


if __name__ == "__main__":
    main()
