"""w2: load -> MTA -> sink, until the last message is in the sink."""
import time

from . import base, meter, tools
from .peer import Peer

CASES = [("50 sessions", dict(sessions=50)), ("1 session", dict(sessions=1))]
SHOW = [("rate", "messages/s", "%.0f"), ("cpu", "CPU ms/message", "%.3f"), ("pss", "peak PSS MiB", "%.0f")]
PEERS = ["postfix", "impetus"]
# So many messages that it takes some seconds each: (50 sessions, one).
MESSAGES = {"postfix": (8000, 3000), "impetus": (40000, 8000)}


def cases():
    return CASES


def measure(name, case, sessions=50):
    n = MESSAGES[name][sessions == 1] // (4 if base.SHORT else 1)
    return relayed(name, "w2 %s %s" % (name, case), sessions, n)


def warm_up(p, sink, what, **opt):
    """The first messages and connections are not measured."""
    base0 = sink["rcpts"]
    load = tools.Load(10, m=1000 if p.name != "postfix" else 200, **opt)
    load.wait()
    load.check(what + ", warming up")
    if not base.wait_until(lambda: sink["rcpts"] - base0 >= load["ok"], 60):
        base.complain("%s: the warming up did not arrive" % what)
    time.sleep(0.2)


def flow(p, sink, what, sessions, n, first, **opt):
    """n messages through p: what it took."""
    there, c0, s0 = sink["rcpts"], p.cpu(), sink.cpu()
    t0 = time.monotonic()
    load = tools.Load(sessions, m=n, b=first, **opt)
    load.wait(300)
    accepted_s = time.monotonic() - t0
    load.check(what, n)
    if not base.wait_until(lambda: sink["rcpts"] - there >= n, 120):
        base.complain("%s: %d of %d arrived" % (what, sink["rcpts"] - there, n))
    time.sleep(0.3)
    cpu, got = p.cpu() - c0, max(sink["rcpts"] - there, 1)
    return dict(rate=got / (sink["last"] - t0), cpu=1000 * cpu / got, accept_s=accepted_s, arrived=got,
                p99_ms=load["p99_ms"], tool_cpu=1000 * (load.cpu_end + sink.cpu() - s0) / got)


def relayed(name, what, sessions, n, env=None, **opt):
    with Peer(name, "relay", sessions, env) as p:
        sink = tools.Sink()
        try:
            p.start()
            warm_up(p, sink, what, **opt)
            peak = meter.Peak(p.memory)
            row = flow(p, sink, what, sessions, n, 10 ** 6, **opt)
            row["pss"] = peak.stop()["pss"]
            if not base.wait_until(lambda: p.queued() == 0, 10):
                base.complain("%s: %d are still queued" % (what, p.queued()))
        finally:
            sink.stop()
        sink.check(what)
    return row
