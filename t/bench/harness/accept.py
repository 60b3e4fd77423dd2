"""w1: accept and queue durably, nothing is delivered."""
import time

from . import base, meter, tools
from .peer import Peer

CASES = [("50 sessions", dict(sessions=50)), ("1 session", dict(sessions=1)), ("200 sessions", dict(sessions=200)),
         ("50 sessions, 50 KiB", dict(sessions=50, size=51200)), ("50 sessions, one message each", dict(sessions=50, one=True))]
SHOW = [("rate", "messages/s", "%.0f"), ("cpu", "CPU ms/message", "%.3f"), ("pss", "peak PSS MiB", "%.0f")]
PEERS = ["postfix", "impetus"]


def cases():
    return CASES


def measure(name, case, sessions=50, size=4096, one=False):
    seconds = 2 if base.SHORT else 6
    what = "w1 %s %s" % (name, case)
    with Peer(name, "hold", sessions) as p:
        p.start()
        warm = tools.Load(sessions, size, one, t=1)
        warm.wait()
        warm.check(what + ", warming up")
        time.sleep(0.5)
        before, c0, peak = p.queued(), p.cpu(), meter.Peak(p.memory)
        if before != warm["ok"]:
            base.complain("%s: %d accepted and %d queued while warming up" % (what, warm["ok"], before))
        t0 = time.monotonic()
        load = tools.Load(sessions, size, one, t=seconds, b=10 ** 8)
        c = load.wait()
        secs, cpu = time.monotonic() - t0, p.cpu() - c0
        tool_cpu, high = load.cpu_end, peak.stop()
        load.check(what)
        time.sleep(0.3)
        queued = p.queued() - before
        if queued != c["ok"]:
            base.complain("%s: %d accepted and %d queued" % (what, c["ok"], queued))
    n = max(c["ok"], 1)
    return dict(rate=n / secs, cpu=1000 * cpu / n, pss=high["pss"], procs=high["procs"], accepted=c["ok"],
                p50_ms=c["p50_ms"], p99_ms=c["p99_ms"], tool_cpu=1000 * tool_cpu / n)
