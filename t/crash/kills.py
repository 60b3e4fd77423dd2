#!/usr/bin/python3
"""kills.py [--short] [--kills N] [--seed S]: kills processes of a running impetusd under load: at every named point, and at
random instants of every role, of all at once, before and during reloads; restarts it with other numbers of workers and
without its index. After each kill it asks for the account (parts/account.py).

Prints its seed; the same seed gives the same kills in the same order (instants differ as the machine does)."""
import argparse
import collections
import time
import sys

from parts import board, pool
from parts.world import World

ROLES = ("worker", "worker", "keeper", "console", "master", "all")
WORKERS = (1, 2, 4, 8)
PER_WORLD = 25
# What brings the service to a point that the load alone does not reach.
ONLY_AT_REBUILD = ("rebuild.begin", "rebuild.before_commit")
ONLY_AFTER_DEATH = ("seal.before_toc", "keeper.before_sync")
ONLY_AFTER_FAILURE = ("journal.before_end",)
ONLY_WITH_CHANGE = ("reclaim.", "ended.", "segment.before_seal", "segment.before_toc", "segment.after_seal")
RARE = ("segment.", "reclaim.", "ended.", "seal.", "body.", "rebuild.", "keeper.", "journal.before_end")


class Killing:
    def __init__(self, folder, seed, tasks):
        self.w, self.tasks, self.counts = World(folder, seed, None), tasks, collections.Counter()
        self.rng = self.w.rng

    def run(self):
        try:
            for task in self.tasks:
                self.one(task)
            self.w.finish()
        except AssertionError as e:
            self.w.abandon(str(e))
        self.counts["answered 250"] += len(self.w.load.acked)
        self.counts["arrived"] += len(self.w.peer.got)
        self.counts["arrived twice"] += len(self.w.account.twice())
        self.counts["named in doubt"] += len(self.w.account.doubts)
        return self.counts, self.w.failures

    def one(self, task):
        what, name = task
        if self.rng.random() < 0.125:
            self.w.reload()
            self.counts["reloads under way"] += 1
        hit = self.at_point(name) if what == "point" else self.at_random(name)
        if not hit:
            self.counts["not reached at once: " + name] += 1
            hit = self.at_random("worker")
            what, name = "random", "worker"
        self.counts["harms"] += 1
        self.counts["%s: %s" % (what, name)] += 1
        if self.w.down():
            self.restart()
        elif name == "master":
            raise AssertionError("the master outlives its death")
        self.w.round("%s %s" % (what, name))

    def at_random(self, role):
        time.sleep(self.rng.uniform(0.02, 0.3))
        return self.w.kill(role)

    def at_point(self, name):
        w, all_at_once = self.w, self.rng.random() < 0.3
        w.board.set(0, name, board.KILL_ALL if all_at_once else board.KILL,
                    at=1 if name.startswith(RARE) else self.rng.choice((1, 2, 5, 12)))
        children = w.pids(None)
        self.provoke(name)
        hit = w.passed(0, 2 if name.startswith(RARE) else 4)
        if not hit and not w.down():
            w.load.hold()                                   # some things are done only when the journals are still
            w.reload()
            hit = w.passed(0, 3)
            w.load.go.set()
            hit = hit or w.passed(0, 3)
        w.board.clear()
        if hit and all_at_once:
            w.mta.proc.wait()
            w.orphans_end(children)
            self.counts["of these with all processes at once"] += 1
        return hit

    def provoke(self, name):
        w = self.w
        if name in ONLY_AT_REBUILD:
            w.mta.kill_all()
            w.start(drop_index=True, wait=False)            # the end may come before the banner
        elif name in ONLY_AFTER_DEATH:
            w.kill("worker")
        elif name.startswith(ONLY_WITH_CHANGE):
            w.reload()
        elif name in ONLY_AFTER_FAILURE:
            w.board.set(1, "journal.sync", board.ERROR, error=5)

    def restart(self):
        workers = self.rng.choice(WORKERS) if self.rng.random() < 0.5 else None
        drop = self.rng.random() < 0.2
        self.counts["restarts"] += 1
        if workers:
            self.counts["restarts with %d workers" % workers] += 1
        if drop:
            self.counts["restarts without the index"] += 1
        self.w.start(workers, drop)


def plan(kills, seed, short):
    """Half at points, each as often as the others; half at random instants, roles in turn."""
    names = board.kill_points()
    at_points = [("point", names[i % len(names)]) for i in range(kills if short else kills // 2)]
    at_points = at_points[:max(len(names), kills // 2)] if short else at_points
    at_random = [("random", ROLES[i % len(ROLES)]) for i in range(max(kills - len(at_points), len(ROLES)))]
    return pool.shared(at_points + at_random, PER_WORLD, seed)


def work(folder, seed, tasks):
    return Killing(folder, seed, tasks).run()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--kills", type=int)
    p.add_argument("--seed", type=int)
    p.add_argument("--jobs", type=int, default=pool.default_jobs())
    a = p.parse_args()
    seed, kills = pool.seed_of(a.seed), a.kills or (50 if a.short else 1000)
    print("seed %d, %d kills, %d points" % (seed, kills, len(board.kill_points())), flush=True)
    sys.exit(pool.run("crash", seed, work, plan(kills, seed, a.short), a.jobs))


if __name__ == "__main__":
    main()
