"""w3: sessions that said EHLO and then wait: process memory of each."""
import time

from . import base, tools
from .peer import Peer

SHOW = [("pss_kib", "PSS KiB/session", "%.2f"), ("own_kib", "anon+shmem KiB/session", "%.2f"), ("procs", "processes", "%.0f")]
PEERS = ["postfix", "impetus"]
# Postfix has a process a session: its cost is the same at a fifth of them, and the machine lives.
SESSIONS = {"postfix": 1000, "impetus": 5000}


def cases():
    return [("idle sessions (%s)" % ", ".join("%s %d" % (p, sessions(p)) for p in PEERS), {})]


def sessions(name):
    return SESSIONS[name] // (5 if base.SHORT else 1)


def settled(p):
    """Memory once it has stopped to move."""
    last = p.memory()
    for _ in range(20):
        time.sleep(0.5)
        now = p.memory()
        if abs(now["pss"] - last["pss"]) < 0.2 and now["procs"] == last["procs"]:
            break
        last = now
    return now


def measure(name, case):
    n, what = sessions(name), "w3 " + name
    with Peer(name, "hold", n + 20) as p:
        p.start()
        before = settled(p)
        load = tools.Load(n, i=True)
        if not base.wait_until(lambda: load["idle"] >= n, 180, 0.1):
            base.complain("%s: %d of %d sessions were had" % (what, load["idle"], n))
        got, after = max(load["idle"], 1), settled(p)
        load.stop()
        load.check(what)
    return dict(pss_kib=1024 * (after["pss"] - before["pss"]) / got, own_kib=1024 * (after["own"] - before["own"]) / got,
                procs=after["procs"], sessions=got, pss=after["pss"], own=after["own"], file=after["file"])
