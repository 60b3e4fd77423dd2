"""The load tools without an MTA between them: above this, it is they that are measured. In the column of postfix its
smtp-source and smtp-sink."""
import subprocess
import time

from . import base, tools
from .peer import Cgroup

SHOW = [("rate", "messages/s", "%.0f"), ("cpu", "CPU ms/message, both", "%.3f")]
PEERS = ["postfix", "impetus"]


def cases():
    return [("50 sessions, no MTA between", dict(sessions=50)), ("1 session, no MTA between", dict(sessions=1))]


def measure(name, case, sessions):
    n = (40000 if sessions > 1 else 8000) // (4 if base.SHORT else 1)
    return (shipped if name == "postfix" else own)(sessions, n)


def own(sessions, n):
    sink = tools.Sink()
    c0, t0 = sink.cpu(), time.monotonic()
    load = tools.Load(sessions, m=n, port=base.SINK_PORT)
    load.wait(120)
    cpu = sink.cpu() - c0 + load.cpu_end
    sink.stop()
    load.check("load to sink", n)
    sink.check("load to sink", n)
    return dict(rate=n / (sink["last"] - t0), cpu=1000 * cpu / n)


def shipped(sessions, n):
    """smtp-source ends when all is sent; it and the sink are in one cgroup."""
    group, root, at = Cgroup("source"), str(base.OUT / "root-postfix"), "127.0.0.1:%d" % base.SINK_PORT

    def run(*args):
        return subprocess.Popen(["chroot", root, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                preexec_fn=group.enter)
    sink = run("/usr/sbin/smtp-sink", "-u", "nobody", at, "4000")
    time.sleep(0.5)
    c0, t0 = group.cpu(), time.monotonic()
    rc = run("/usr/sbin/smtp-source", "-d", "-s", str(sessions), "-m", str(n), "-l", "4096", "-f", "from@source.test",
             "-t", "to@dest.test", at).wait()
    secs, cpu = time.monotonic() - t0, group.cpu() - c0
    if rc or sink.poll() is not None:
        base.complain("smtp-source to smtp-sink ended with %d" % rc)
    sink.kill()
    sink.wait()
    group.remove()
    return dict(rate=n / secs, cpu=1000 * cpu / n)
