#!/usr/bin/python3
"""kills.py [--short] [--kills N] [--seed S]: kills processes of a running impetusd under load: at every named point, and at
random instants of every role, of all at once, before and during reloads; restarts it with other numbers of workers and
without its index. After each kill it asks for the account (parts/account.py).

Prints its seed; the same seed gives the same kills in the same order (instants differ as the machine does)."""
import time
import sys

from parts import board, pool
from parts.harm import Harms

ROLES = ("worker", "worker", "keeper", "console", "master", "all")
WORKERS = (1, 2, 4, 8)
PER_WORLD = 25
# What brings the service to a point that the load alone does not reach.
ONLY_AT_REBUILD = ("rebuild.begin", "rebuild.before_commit")
ONLY_AFTER_DEATH = ("seal.before_toc", "keeper.before_sync")
ONLY_AFTER_FAILURE = ("journal.before_end",)
ONLY_WITH_CHANGE = ("reclaim.", "ended.", "segment.before_seal", "segment.before_toc", "segment.after_seal")
RARE = ("segment.", "reclaim.", "ended.", "seal.", "body.", "rebuild.", "keeper.", "journal.before_end")


class Killing(Harms):
    def one(self, what, name):
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
        hit = self.reached(name, 2 if name.startswith(RARE) else 4)
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
    a = pool.options(kills=int)
    kills = a.kills or (50 if a.short else 1000)
    print("seed %d, %d kills, %d points" % (a.seed, kills, len(board.kill_points())), flush=True)
    sys.exit(pool.run("crash", a.seed, work, plan(kills, a.seed, a.short), a.jobs))


if __name__ == "__main__":
    main()
