#!/usr/bin/python3
"""faults.py [--short] [--seed S]: lets calls of the spool and of LMDB fail in a running impetusd under load, with each errno
that fits, once and from then on until it is taken back; writes only parts; and refuses memory to each role. While the fault
lasts mail may be refused; when it is over the service must come to itself, and the account must be right.

Prints its seed; the same seed gives the same faults."""
import errno
import sys
import time

from parts import board, pool
from parts.harm import Harms

PER_WORLD = 8
SPOOL = ("EIO", "ENOSPC", "EDQUOT")
OPENS = ("EMFILE", "ENFILE", "EIO", "ENOSPC")
# LMDB's own codes (lmdb.h): the map is full, a page is damaged, the environment is broken, no place for a reader.
LMDB = {"MAP_FULL": -30792, "CORRUPTED": -30796, "PANIC": -30795, "READERS_FULL": -30790}
ROLES = ("worker", "keeper", "console")
ONLY_AT_RESTART = ("lmdb.open", "keeper.lock", "segment.list")
ONLY_AT_REBUILD = ("index.aside", "lmdb.drop")
ONLY_AFTER_DEATH = ("toc.open", "toc.sync", "keeper.sync")
ONLY_WITH_CHANGE = ("ended.", "spare.", "disk.reserve", "reclaim.", "segment.", "seal.", "body.")
# A file of 64 MiB with three quarters free is needed: t/unit/spool/test_index.c has these.
NOT_HERE = ("index.rename", "index.dirsync", "lmdb.copy")


def errors_for(point):
    if point.startswith("lmdb."):
        return ["EIO", "ENOSPC", "ENOMEM"] + list(LMDB)
    if point in ("file.read", "ended.read", "read.cold", "segment.list"):
        return ["EIO", "EMFILE"] if point.endswith("list") else ["EIO"]
    return OPENS if point.split(".")[1] in ("create", "open", "lock") else SPOOL


def code(name):
    return LMDB[name] if name in LMDB else getattr(errno, name)


class Faulty(Harms):
    def one(self, point, error, onward):
        w, what = self.w, "%s %s%s" % (point, error, " from then on" if onward else "")
        self.arm(point, error, onward)
        hit = self.reached(point, 4)
        if hit and onward:
            time.sleep(self.rng.uniform(0.2, 1.2))
        w.board.clear()
        if not hit:
            self.counts["not reached: " + point] += 1
            return
        self.counts["harms"] += 1
        self.counts["%s, %s" % (point, "from then on" if onward else "once")] += 1
        self.counts["errno %s" % error] += 1
        if w.down():
            raise AssertionError("the master has ended over " + what)
        w.takes_mail(what)
        w.round(what)

    def arm(self, point, error, onward):
        w, at = self.w, self.rng.choice((1, 2, 7))
        if point == "mem.alloc":
            role = self.rng.choice(ROLES)
            pids = w.pids(role) or [0]
            self.counts["memory refused to a " + role] += 1
            w.board.set(0, point, board.ERROR, self.rng.randint(1, 400 if role == "worker" else 60), errno.ENOMEM, onward,
                        self.rng.choice(pids))
        elif error == "short":
            w.board.set(0, point, board.SHORT, at, 0, onward)
        elif error.startswith("short, then "):
            w.board.set(0, point, board.SHORT, at)
            w.board.set(1, point, board.ERROR, at + 1, code(error.split()[-1]))
        else:
            at = at if point in ("journal.write", "journal.sync", "file.write", "file.read", "body.write") or \
                point.startswith("lmdb.") else 1
            w.board.set(0, point, board.ERROR, at, code(error), onward)

    def provoke(self, point):
        w = self.w
        if point in ONLY_AT_REBUILD:
            w.board.set(1, "lmdb.put", board.ERROR, 1, LMDB["CORRUPTED"])
        elif point in ONLY_AT_RESTART or point in ONLY_AFTER_DEATH:
            w.kill("worker" if point in ONLY_AFTER_DEATH else "keeper")
        elif point in ("mem.alloc", "lmdb.stat"):
            self.w.mta.ctl("summary", check=False)
        elif point.startswith(ONLY_WITH_CHANGE):
            w.reload()


def plan(seed, short):
    everything = [(p, e, onward) for p in board.error_points() if p not in NOT_HERE for e in errors_for(p) for onward in (False, True)]
    everything += [("file.write", e, False) for e in ("short", "short, then ENOSPC", "short, then EIO")]
    everything += [("file.write", "short", True)] + [("mem.alloc", "ENOMEM", False)] * 36 + [("mem.alloc", "ENOMEM", True)] * 6
    lots = pool.shared(everything, PER_WORLD, seed)
    return lots[:2] if short else lots


def work(folder, seed, tasks):
    return Faulty(folder, seed, tasks).run()


def main():
    a = pool.options(point=str)
    lots = plan(a.seed, a.short)
    if a.point:
        lots = [[t for lot in lots for t in lot if t[0].startswith(a.point)]]
    print("seed %d, %d faults at %d points" % (a.seed, sum(map(len, lots)), len(board.error_points())), flush=True)
    sys.exit(pool.run("faults", a.seed, work, lots, a.jobs))


if __name__ == "__main__":
    main()
