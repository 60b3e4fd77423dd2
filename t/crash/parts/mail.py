"""Mail whose fate its recipient's name tells: each recipient address stands for one delivery.

  r    taken at once              later  refused for the time being until the third try
  no   refused for good, so the sender's address gets a notice
  stay refused for the time being until the sink lets it go: it is what must be found queued
Every deferred one has a domain, so a queue, of its own: `mailq` then names what is queued."""
import collections
import re
import threading
import time

from lib import corpus
from lib.smtp import Client, Sink

# The service that gets it: what is put off comes again at once, and segments are many.
EXTRA = "retry_interval = 1\nmax_retry_interval = 2\nsegment_size = 1048576\nspool_free_min = 0"
KINDS = ("r", "r", "r", "r", "r", "r", "two", "later", "no", "stay")
NUMBER = re.compile(r"^[a-z]+?(\d+)[ab]?@")


def kind_of(n):
    return "large" if n % 37 == 11 else KINDS[n % len(KINDS)]


def rcpts(n):
    kind = kind_of(n)
    if kind == "two":
        return ["two%d%s@d%d.example.com" % (n, x, n % 5) for x in "ab"]
    if kind in ("later", "stay"):
        return ["%s%d@%s%d.example.com" % (kind, n, kind, n)]
    return ["%s%d@d%d.example.com" % (kind, n, n % 5)]


def sender(n):
    return "s%d@back.example.com" % n


def key_of(rcpt):
    """The address at which the fate of this recipient shows."""
    return sender(int(NUMBER.match(rcpt)[1])) if rcpt.startswith("no") else rcpt


def domain_of(rcpt):
    return rcpt.split("@")[1]


def body(n):
    """Mostly up to 2 KiB; a large one has a segment of its own."""
    return b"Subject: %d\r\n\r\n" % n + b"line %d of it\r\n.\r\n" % n * (17000 if kind_of(n) == "large" else n % 120 + 1)


class Peer(Sink):
    """The next hop: keeps for every address how often it got mail, and what was altered."""

    def __init__(self, slow=0.0):
        self.tries, self.got, self.altered = collections.Counter(), collections.Counter(), []
        self.let_go = self.defer_all = False
        self.in_work = self.most_in_work = 0
        self.slow = slow
        super().__init__(self.reply)

    def reply(self, stage, text, h):
        if stage == "rcpt":
            rcpt = text.decode()
            with self.lock:
                self.tries[rcpt] += 1
                tries = self.tries[rcpt]
            if self.defer_all:
                return b"451 4.3.0 not now\r\n"
            if rcpt.startswith("no"):
                return b"550 5.1.1 no such user\r\n"
            if not self.let_go and (rcpt.startswith("stay") or rcpt.startswith("later") and tries < 3):
                return b"451 4.3.0 not now\r\n"
        elif stage == "dot" and self.slow:
            time.sleep(self.slow * (hash(text) % 100) / 100)
        return None

    def session(self, h):
        with self.lock:
            self.in_work += 1
            self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            super().session(h)
        finally:
            with self.lock:
                self.in_work -= 1

    def dot(self, h, data):
        rcpt = h.rcpts[0].decode()
        n = int(NUMBER.match(rcpt)[1])
        if rcpt.startswith("s") and not rcpt.startswith("stay"):
            good = b"5.1.1 no such user" in data and b"no%d@" % n in data
        else:
            good = corpus.without_trace(data) == body(n)
        self.reply("dot", data, h)
        with self.lock:
            self.got[rcpt] += 1
            if not good:
                self.altered.append(rcpt)
        h.wfile.write(b"250 2.0.0 taken\r\n")
        h.sender, h.rcpts = None, []


class Load:
    """Clients that send numbered messages and remember what was answered 250; `first` keeps numbers of runs apart."""

    def __init__(self, port, clients=4, pause=0.01, last=None):
        self.port, self.pause, self.last = port, pause, last
        self.next, self.acked, self.sent, self.refused = 0, set(), set(), collections.Counter()
        self.ids, self.lock = {}, threading.Lock()
        self.stop, self.go, self.busy = threading.Event(), threading.Event(), 0
        self.go.set()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def may(self):
        """Waits for the word to go on; False when there is none to come. At the last message the load holds by itself, with
        its clients alive, so that a later `more` finds them."""
        self.go.wait()
        return not self.stop.is_set()

    def more(self, last):
        self.last = last
        self.go.set()

    def run(self):
        while self.may():
            try:
                with Client(self.port, timeout=60) as c:
                    c.greet()
                    for _ in range(20):
                        if not self.go.is_set() or not self.may() or not self.one(c):
                            break
                        time.sleep(self.pause)
            except (OSError, AssertionError, ValueError):
                time.sleep(0.02)

    def one(self, c):
        with self.lock:
            if not self.go.is_set():
                return False
            n, self.next = self.next, self.next + 1
            if self.next == self.last:
                self.go.clear()
            self.sent.update(rcpts(n))
            self.busy += 1
        try:
            code, text = c.mail(sender(n), rcpts(n), body(n))
        finally:
            with self.lock:
                self.busy -= 1
        with self.lock:
            if code == 250:
                self.acked.update(rcpts(n))
                self.ids[n] = text
            else:
                self.refused[code] += 1
        return code == 250

    def hold(self):
        """No client is within a transaction when this returns."""
        with self.lock:
            self.go.clear()
        while self.busy:
            time.sleep(0.005)

    def end(self):
        self.stop.set()
        self.go.set()
        for t in self.threads:
            t.join(90)
