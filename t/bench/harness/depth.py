"""w4: the next hop refuses connections while mail comes in; stop; next hop up; start; drain."""
import time

from . import base, meter, tools
from .peer import Peer

SHOW = [("in_rate", "accepted/s", "%.0f"), ("in_cpu", "CPU ms/message in", "%.3f"), ("pss", "PSS MiB then", "%.0f"),
        ("disk", "disk bytes/message", "%.0f"), ("first_s", "s to first delivery", "%.2f"),
        ("out_rate", "drained/s", "%.0f"), ("out_cpu", "CPU ms/message out", "%.3f")]
PEERS = ["postfix", "impetus"]


def cases():
    n = 5000 if base.SHORT else 100000
    return [("{:,} queued".format(n), dict(n=n))]


def fill(p, n, what):
    c0, t0 = p.cpu(), time.monotonic()
    load = tools.Load(50, m=n)
    load.wait(400)
    load.check(what, n)
    row = dict(in_rate=load["ok"] / (load["last"] - t0), in_cpu=1000 * (p.cpu() - c0) / max(load["ok"], 1))
    time.sleep(1)
    memory, queued = p.memory(), p.queued()
    if queued != load["ok"]:
        base.complain("%s: %d accepted and %d queued" % (what, load["ok"], queued))
    return queued, dict(row, pss=memory["pss"], own=memory["own"], file=memory["file"], disk=p.disk() / max(queued, 1))


def drain(p, n, what):
    """An operator without patience asks for delivery every 10 s."""
    sink = tools.Sink()
    try:
        c0, t0 = p.cpu(), time.monotonic()
        start_s, peak = p.start(), meter.Peak(p.memory)
        while time.monotonic() - t0 < 400:
            p.script("flush")
            if base.wait_until(lambda: sink["rcpts"] >= n, 10):
                break
        time.sleep(0.3)
        cpu, high = p.cpu() - c0, peak.stop()
    finally:
        sink.stop()
    sink.check(what, n)
    got = max(sink["rcpts"], 1)
    return dict(start_s=start_s, first_s=sink["first"] - t0, out_rate=got / (sink["last"] - t0), out_cpu=1000 * cpu / got,
                out_pss=high["pss"])


def measure(name, case, n):
    what = "w4 %s" % name
    with Peer(name, "relay", 50) as p:
        p.start()
        queued, row = fill(p, n, what)
        row["stop_s"] = p.stop()
        row.update(drain(p, queued, what))
        if not base.wait_until(lambda: p.queued() == 0, 10):
            base.complain("%s: %d are still queued" % (what, p.queued()))
    return row
