"""One harm after another to a running service (kills.py, faults.py): after each the account is asked for."""
import collections

from .world import World


class Harms:
    """A world, and the tasks that are done to it; a kind of harm says in `one` what a task is, and in `provoke` what brings the
    service to a point that the load alone does not reach."""

    def __init__(self, folder, seed, tasks):
        self.w, self.tasks, self.counts = World(folder, seed, None), tasks, collections.Counter()
        self.rng = self.w.rng

    def run(self):
        try:
            for task in self.tasks:
                self.one(*task)
            self.w.finish()
        except AssertionError as e:
            self.w.abandon(str(e))
        self.counts["answered 250"] += len(self.w.load.acked)
        self.counts["arrived"] += len(self.w.peer.got)
        self.counts["arrived twice"] += len(self.w.account.twice())
        self.counts["named in doubt"] += len(self.w.account.doubts)
        for code, n in self.w.load.refused.items():
            self.counts["transactions ended with %d" % code] += n
        return self.counts, self.w.failures

    def reached(self, point, seconds):
        """The first rule of the board has hit, or the service is gone; some things are done only when the journals are still."""
        w = self.w
        self.provoke(point)
        hit = w.passed(0, seconds)
        if hit or w.down():
            return hit
        w.load.hold()
        w.reload()
        w.mta.ctl("ledger", check=False)
        hit = w.passed(0, 3)
        w.load.go.set()
        return hit or w.passed(0, 3)
