"""One hot queue, two workers: the owner lends, and either may die of it. Who delivers is read from whose sockets they are."""
import collections
import os
import pathlib
import signal
import threading
import time

import pytest
from lib.impetus import wait_until
from lib.smtp import Client, Sink

N = 600
# The test build takes its owner for busy and everybody else for idle: no load is needed, and none can prevent it.
BUSY = {"IMPETUS_FAULT": "owner.busy=EIO@1*"}


def pid_of_port(port, pids):
    """Whose socket, of these processes', has this local port."""
    inodes = set()
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rsplit(":", 1)[1], 16) == port:
            inodes.add("socket:[%s]" % words[9])
    for pid in pids:
        try:
            for fd in pathlib.Path("/proc/%d/fd" % pid).iterdir():
                if os.readlink(fd) in inodes:
                    return pid
        except OSError:
            continue
    return None


class Hot:
    """A daemon, its sink, and for each message who brought it."""

    def __init__(self, make, extra="max_outbound_connections = 4", **kw):
        self.lock, self.pids, self.of_port = threading.Lock(), [], {}
        self.sink = Sink(self.answer)
        self.m = make(self.sink.port, workers=2, env=BUSY, extra=extra, **kw)
        self.pids = [p for p, _ in self.m.children("worker")]
        assert len(self.pids) == 2

    def answer(self, stage, text, h):
        if stage == "connect":
            with self.lock:
                self.of_port[h.client_address[1]] = pid_of_port(h.client_address[1], self.pids)
        if stage == "dot":
            time.sleep(0.02)    # a next hop: the owner alone needs seconds, so that the other gets its turn

    def fill(self):
        self.m.ctl("binding", "suspend", "default")
        with Client(self.m.port, timeout=60) as c:
            c.greet()
            for i in range(N):
                code, text = c.mail("s%d@source.test" % i, ["r%d@hot.example" % i], b"Subject: %d\r\n\r\nx\r\n" % i)
                assert code == 250, (i, code, text)
        assert not self.sink.mails
        self.m.ctl("binding", "resume", "default")

    def by(self):
        """Messages of each process."""
        with self.sink.lock:
            return collections.Counter(self.of_port.get(x.port) for x in self.sink.mails)

    def owner(self):
        """Who connects first: what is lent was its to begin with."""
        wait_until(lambda: [p for p in list(self.of_port.values()) if p], what="a connection")
        return next(p for p in list(self.of_port.values()) if p)

    def check(self):
        """Everything has arrived, and twice only what is named."""
        m, sink = self.m, self.sink
        wait_until(lambda: len({x.rcpts[0] for x in sink.mails}) == N, 90, what="all of the mail")
        wait_until(lambda: m.json("ledger")["queued"] == 0, 60, what="an empty queue")
        named = {a["recipient"] for a in m.json("indoubt", "list")["attempts"]}
        with sink.lock:
            count = collections.Counter(x.rcpts[0] for x in sink.mails)
        assert {r for r, n in count.items() if n > 1} <= named
        assert max(count.values()) <= 2
        ledger = m.json("ledger")
        assert ledger["difference"] == 0 and ledger["delivered"] == N, ledger
        return named

    def counters(self):
        s = self.m.json("summary")
        return s["lent"], s["borrowed"], s["messages_lent"]


def test_a_hot_queue_is_delivered_by_both_workers(make):
    hot = Hot(make)
    hot.fill()
    assert not hot.check()
    by = hot.by()
    assert sorted(by) == sorted(hot.pids) and sum(by.values()) == N, by
    wait_until(lambda: hot.counters()[2] == 0, what="nothing on loan")
    lent, borrowed, _ = hot.counters()
    assert lent >= borrowed >= min(by.values()) > 0
    hot.sink.close()


@pytest.mark.parametrize("who", ["lender", "borrower"])
def test_either_is_killed_in_the_middle(make, who):
    hot = Hot(make)
    hot.fill()
    owner = hot.owner()
    other = next(p for p in hot.pids if p != owner)
    wait_until(lambda: min(hot.by()[owner], hot.by()[other]) >= 20, 60, what="both at work")
    os.kill(owner if who == "lender" else other, signal.SIGKILL)
    wait_until(lambda: len(hot.m.children("worker")) == 2, what="a new worker")
    hot.pids += [p for p, _ in hot.m.children("worker") if p not in hot.pids]
    hot.check()
    wait_until(lambda: hot.counters()[2] == 0, what="nothing on loan")
    hot.sink.close()


def test_a_reload_in_the_middle(make):
    hot = Hot(make)
    hot.fill()
    owner = hot.owner()
    other = next(p for p in hot.pids if p != owner)
    wait_until(lambda: min(hot.by()[owner], hot.by()[other]) >= 20, 60, what="both at work")
    hot.m.reload()
    assert not hot.check()
    hot.sink.close()


def test_limits_hold_over_both(make):
    """Three connections in all, whoever has them; with one, nothing is lent."""
    for most in 3, 1:
        hot = Hot(make, name="mta%d" % most, extra="max_outbound_connections = %d" % most)
        seen = []
        hot.sink.answer = lambda stage, text, h, hot=hot, seen=seen: (
            Hot.answer(hot, stage, text, h), seen.append(len(hot.sink.open)))[0]
        hot.fill()
        assert not hot.check()
        by = hot.by()
        assert len(by) == (2 if most > 1 else 1), by
        assert max(seen) <= most + 1        # one may not have seen its QUIT answered
        hot.sink.close()
