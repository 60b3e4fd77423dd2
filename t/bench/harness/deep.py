"""One million queued messages, and what that changes: the price of a relayed message beside it, the start after the
death of everything, the console, the drain, the memory. DEPTH=n sets another number.

The depths of the curve are servers of their own, all alive at once, so that their runs can take turns. What is queued
is held by suspend_delivery for its domains, until the drain."""
import contextlib
import os
import shutil
import statistics
import subprocess
import time

from . import base, plots, relay, tools
from .peer import Peer, install

HELD = 'Domain "/[.]hold[.]test$/" { suspend_delivery = true }\n'
LIMIT = 512 << 20
FILL_SECONDS, DRAIN_SECONDS = (60, 60) if base.SHORT else (300, 500)
SHOW = [("value", "", "%.4g")]


class Depth(Peer):
    def __init__(self, n, number):
        self.n, self.scratch = n, base.OUT / ("depth-%d" % number)
        super().__init__("impetus", "relay", 200, {"SCRATCH": str(self.scratch), "P_IMPETUS_EXTRA": HELD},
                         port=base.PORT + 2 * number)
        install(["impetus"], self.scratch)
        self.root = self.scratch / "root-impetus"

    def ctl(self, *args):
        return subprocess.run([str(self.root / "bin/impetusctl"), "-s", str(self.root / "control"), *args],
                              stdout=subprocess.PIPE, text=True).stdout

    def summary(self):
        return {f[0]: int(f[1]) for f in (line.split() for line in self.ctl("summary").splitlines())
                if len(f) == 2 and f[1].isdigit()}

    def asked(self, verb):
        """Seconds that impetusctl takes, median of five."""
        took = []
        for _ in range(5):
            t0 = time.monotonic()
            if not self.ctl(verb):
                base.complain("deep: no answer to " + verb)
            took.append(time.monotonic() - t0)
        return statistics.median(took)

    def index_bytes(self):
        return sum(f.stat().st_blocks * 512 for f in (self.root / "spool/index").iterdir())

    def __exit__(self, *exc):
        self.cgroup.limit(None)
        super().__exit__(*exc)
        shutil.rmtree(self.scratch, ignore_errors=True)


class Deep:
    def __init__(self, report):
        self.report = report
        self.n = int(os.environ.get("DEPTH", 20000 if base.SHORT else 1000000))
        self.depths = [0, 1000 if base.SHORT else 10000, self.n]
        report.show("curve-depth", [("cpu", "CPU ms/message", "%.3f"), ("rate", "messages/s", "%.0f")])
        report.show("deep", SHOW)

    def note(self, what, value):
        self.report.add("deep", what, "impetus", dict(value=value))
        base.say("deep: %s: %.4g" % (what, value))

    def run(self, repeat):
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Depth(n, i)) for i, n in enumerate(self.depths)]
            for p in peers:
                p.start()
                if p.n:
                    self.fill(p)
            self.curve(peers, repeat)
            for p in peers[:-1]:
                p.stop()
            self.rest(peers[-1])
            self.rebuild(peers[-1])
            self.drain(peers[-1])

    def fill(self, p):
        """In tenths: does the rate fall with depth?"""
        load = tools.Load(50, 1024, port=p.port, m=p.n, d=1000, D="hold.test",
                          **({} if "DEPTH" in os.environ else {"t": FILL_SECONDS}))
        tenths, rows, t0, step = [(time.monotonic(), 0, p.cpu())], [], time.monotonic(), max(p.n // 10, 1)
        while not load.ended.is_set():
            ok, now = load["ok"], time.monotonic()
            if ok - tenths[-1][1] >= step:
                tenths.append((now, ok, p.cpu()))
            if not rows or now - t0 - rows[-1][0] >= 1:
                m = p.memory()
                rows.append((now - t0, ok, m["own"], m["file"]))
            time.sleep(0.05)
        load.wait()
        load.check("deep, filling")
        if load["ok"] < p.n:
            base.say("deep: after %d s there are %d and not %d" % (FILL_SECONDS, load["ok"], p.n))
        deepest, p.n = p.n == self.n, int(load["ok"])
        if not deepest:
            return
        self.n = p.n
        tenths.append((time.monotonic(), load["ok"], p.cpu()))
        rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(tenths, tenths[1:]) if b[1] - a[1] >= step / 2]
        cpus = [1000 * (b[2] - a[2]) / (b[1] - a[1]) for a, b in zip(tenths, tenths[1:]) if b[1] - a[1] >= step / 2]
        for name, part in (("first", slice(0, 2)), ("last", slice(-2, None))):
            if rates:
                self.note("accepted/s, %s fifth" % name, statistics.mean(rates[part]))
                self.note("CPU ms an accepted message, %s fifth" % name, statistics.mean(cpus[part]))
        self.note("peak anon+shmem MiB while filling", max(r[2] for r in rows))
        self.note("peak file MiB while filling", max(r[3] for r in rows))
        slices = [(b[1], (b[1] - a[1]) / (b[0] - a[0]), b[2] - a[2]) for a, b in zip(tenths, tenths[1:]) if b[1] > a[1]]
        plots.lines("deep-fill", "accepting with nothing delivered", "messages queued", [("messages/s", 1)],
                    [s[:2] for s in slices])

    def curve(self, peers, repeat):
        n = 3000 if base.SHORT else 20000
        serial = 10 ** 9
        for k in range(repeat + 1):                  # the first round warms up
            for p in peers:
                sink = tools.Sink()
                case = "{:,} queued".format(p.n)
                row = relay.flow(p, sink, "curve-depth " + case, 50, n, serial, port=p.port, D="flow.test")
                sink.stop()
                sink.check("curve-depth " + case, n)
                serial += n
                if k:
                    self.report.add("curve-depth", case, "impetus", row)
                    base.say("%d/%d curve-depth %s: CPU %.3f ms" % (k, repeat, case, row["cpu"]))

    def rest(self, p):
        """Full and quiet: memory, disk, console."""
        time.sleep(2)
        queued, m = p.queued(), p.memory()
        if queued != self.n:
            base.complain("deep: %d are queued of %d" % (queued, self.n))
        self.note("messages queued", queued)
        self.note("anon+shmem MiB", m["own"])
        self.note("file MiB", m["file"])
        self.note("disk bytes/message, 1 KiB body", p.disk() / max(queued, 1))
        self.note("of them index", p.index_bytes() / max(queued, 1))
        self.note("segments", p.summary()["segments"])
        self.note("s for mailq", p.asked("mailq"))
        self.note("s for summary", p.asked("summary"))

    def rebuild(self, p):
        queued = p.queued()
        p.stop()
        shutil.rmtree(p.root / "spool/index")
        t0 = time.monotonic()
        p.start()
        if not base.wait_until(lambda: p.summary().get("index_messages", 0) >= queued, 600, 0.2):
            base.complain("deep: the rebuilt index holds %s" % p.summary().get("index_messages"))
        self.note("s per million of an index rebuild", (time.monotonic() - t0) * 1e6 / self.n)

    def drain(self, p):
        p.kill()
        p.env["P_IMPETUS_EXTRA"] = ""
        sink = tools.Sink()
        try:
            t0 = time.monotonic()
            self.note("s to the banner after kill -9 of all", p.start())
            first_mailq = p.asked("mailq")
            base.wait_until(lambda: sink["rcpts"] > 0, 60, 0.005)
            self.note("s to the first delivery after kill -9", sink["first"] - t0)
            self.note("s for mailq while it starts to drain", first_mailq)
            self.note("s for summary while it drains", p.asked("summary"))
            rows = self.watch(p, sink, t0)
            self.verdict(p, rows)
        finally:
            sink.stop()
        sink.check("deep, drain")
        if sink["rcpts"] < self.n and p.queued() > 0:
            base.say("deep: %d of %d were drained in the time" % (sink["rcpts"], self.n))
        elif sink["rcpts"] != self.n or p.queued() > 0:
            base.complain("deep: %d of %d arrived, %d are queued" % (sink["rcpts"], self.n, p.queued()))
        self.note("segments after", p.summary()["segments"])
        self.note("index MiB after", p.index_bytes() / 2 ** 20)

    def watch(self, p, sink, t0):
        """Once a second until it is drained: [(s, delivered, own, file, segments, index MiB)]; the limit from half on."""
        rows, limited, c0 = [], False, p.cpu()
        while "DEPTH" in os.environ or time.monotonic() - t0 < DRAIN_SECONDS:
            m, s = p.memory(), p.summary()
            rows.append((time.monotonic() - t0, sink["rcpts"], m["own"], m["file"], s.get("segments", 0),
                         p.index_bytes() / 2 ** 20))
            if rows[-1][1] >= self.n:
                break
            if not limited and rows[-1][1] >= self.n / 2:
                limited = p.cgroup.limit(LIMIT)
                if not limited:
                    base.say("deep: no memory controller here: the drain goes on without a limit")
            time.sleep(1)
        self.note("CPU ms a drained message", 1000 * (p.cpu() - c0) / max(rows[-1][1], 1))
        time.sleep(3)
        return rows

    def verdict(self, p, rows):
        def rate(lo, hi):
            part = [r for r in rows if lo * self.n <= r[1] <= hi * self.n]
            return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0]) if len(part) > 1 else float("nan")
        self.note("drained/s, 5 to 50 %", rate(0.05, 0.5))
        self.note("drained/s, 55 to 100 %, memory limit of 512 MiB", rate(0.55, 1))
        self.note("peak anon+shmem MiB in the drain", max(r[2] for r in rows))
        self.note("peak file MiB in the drain", max(r[3] for r in rows))
        self.note("segments at half", next((r[4] for r in rows if r[1] >= self.n / 2), float("nan")))
        self.note("peak index MiB in the drain", max(r[5] for r in rows))
        plots.lines("deep-drain", "the drain (memory limit of 512 MiB from half on)", "seconds",
                    [("delivered", 1), ("segments", 2), ("index MiB", 2), ("anon+shmem MiB", 2)],
                    [(r[0], r[1], r[4], r[5], r[2]) for r in rows])
