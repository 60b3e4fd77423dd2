"""overload: the rate at which mail is accepted while more is asked than can be served. Each case stands beside the first, which
has no trouble: a rate that collapses shows."""
import os
import re
import signal
import time

from . import base, tools
from .peer import Peer

CASES = [("50 sessions, no trouble", {}), ("beside 10,000 idle sessions", dict(idle=10000)),
         ("2,000 sessions at work", dict(sessions=2000)), ("next hop answers after 0.2 s", dict(slow_hop=True)),
         ("next hop is down", dict(mode="relay")), ("keeper stopped", dict(stop_keeper=True))]
SHOW = [("rate", "accepted/s", "%.0f"), ("cpu", "CPU ms/message", "%.3f"), ("own", "anon+shmem MiB", "%.0f"),
        ("p99_ms", "99th percentile ms", "%.0f"), ("after", "accepted/s afterwards", "%.0f")]
PEERS = ["impetus"]


def cases():
    return CASES


def keeper(p):
    for pid in p.cgroup.pids():
        title = open("/proc/%d/cmdline" % pid).read()
        if re.search(r": keeper\b", title):
            return pid
    raise SystemExit("bench: no keeper among the processes")


def accepted(p, what, seconds, first, sessions):
    """Accepts for so many seconds: (load, messages a second, CPU ms each)."""
    c0, t0 = p.cpu(), time.monotonic()
    load = tools.Load(sessions, t=seconds, b=first)
    load.wait()
    took, n = time.monotonic() - t0, max(load["ok"], 1)
    load.check(what)
    return load, n / took, 1000 * (p.cpu() - c0) / n


def measure(name, case, sessions=50, idle=0, slow_hop=False, stop_keeper=False, mode="hold"):
    what, seconds = "overload %s" % case, 2 if base.SHORT else 4
    with Peer(name, "relay" if slow_hop else mode, sessions + idle + 100) as p:
        sink = tools.Sink("-L", 200) if slow_hop else None
        crowd = None
        try:
            p.start()
            accepted(p, what + ", warming up", 1, 10 ** 8, 50)
            if idle:
                crowd = tools.Load(idle, i=True, p=2, S=50)
                if not base.wait_until(lambda: crowd["idle"] >= idle, 120, 0.1):
                    base.complain("%s: %d of %d idle sessions were had" % (what, crowd["idle"], idle))
            if stop_keeper:
                stopped = keeper(p)
                os.kill(stopped, signal.SIGSTOP)
            load, rate, cpu = accepted(p, what, seconds, 2 * 10 ** 8, sessions)
            own = p.memory()["own"]
            if stop_keeper:
                os.kill(stopped, signal.SIGCONT)
            if crowd is not None:
                crowd.stop()
            after = accepted(p, what + ", afterwards", seconds // 2, 3 * 10 ** 8, 50)[1]
        finally:
            for tool in {sink, crowd} - {None}:
                tool.stop()
    return dict(rate=rate, cpu=cpu, own=own, p99_ms=load["p99_ms"], after=after)
