"""A crowd of SMTP clients: thousands of connections from several processes and many 127.x addresses. Each member is a
process with its share of them; what it answers are counts, added up over all members."""
import collections
import multiprocessing
import resource
import selectors
import socket
import time

CONNECTING = 100        # under way at a time in one process: a listen queue is not endless


class Member:
    """One process's share of the connections."""

    def __init__(self, port, number):
        self.port, self.number, self.socks, self.made = port, number, [], 0
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def connect(self):
        s = socket.socket()
        s.setblocking(False)
        self.made += 1
        s.bind(("127.%d.%d.%d" % (1 + self.number, self.made // 200 % 250, 1 + self.made % 200), 0))
        s.connect_ex(("127.0.0.1", self.port))
        return s

    def open(self, n, seconds):
        """n more sessions, to the end of EHLO's answer. Counts banners by code, refusals that give a reason, and those
        that nobody answered."""
        counts, sel, end = collections.Counter(), selectors.DefaultSelector(), time.monotonic() + seconds
        heard, left = {}, n

        def over(s, what, keep=False):
            counts[what] += 1
            sel.unregister(s)
            heard.pop(s)
            if keep:
                self.socks.append(s)
            else:
                s.close()
        while (left or heard) and time.monotonic() < end:
            while left and len(heard) < CONNECTING:
                s = self.connect()
                sel.register(s, selectors.EVENT_READ)
                heard[s] = b""
                left -= 1
            for key, _ in sel.select(0.5):
                self.hear(key.fileobj, heard, over)
        counts["unanswered"] += left + len(heard)
        for s in list(heard):
            over(s, "given up")
        return counts

    def hear(self, s, heard, over):
        try:
            data = s.recv(4096)
        except OSError:
            data = b""
        heard[s] += data
        text = heard[s]
        if not data:
            over(s, "closed")
        elif not text.endswith(b"\r\n"):
            pass
        elif text[:3] != b"220":
            over(s, text[:3].decode())
        elif b"\r\n250 " in text:
            over(s, "220", keep=True)
        elif b"\r\n250" not in text:
            s.send(b"EHLO crowd.test\r\n")

    def flood(self, unit, bytes_each):
        """Each session sends `unit` again and again without ever reading, until it has sent so many bytes or the other
        side takes no more for two seconds. Counts bytes taken."""
        counts, sel, todo, last = collections.Counter(), selectors.DefaultSelector(), {}, time.monotonic()
        block = unit * max(1, 16384 // len(unit))
        for s in self.socks:
            sel.register(s, selectors.EVENT_WRITE)
            todo[s] = 0
        while todo and time.monotonic() - last < 2:
            for key, _ in sel.select(0.2):
                s = key.fileobj
                try:
                    sent = s.send(block[todo[s] % len(unit):])
                except BlockingIOError:
                    continue
                except OSError:
                    sent, todo[s] = 0, bytes_each
                todo[s] += sent
                counts["bytes"] += sent
                last = time.monotonic()
                if todo[s] >= bytes_each:
                    sel.unregister(s)
                    del todo[s]
        return counts

    def say(self, data):
        """Every session sends the same bytes once; what the kernel does not take is not sent."""
        counts = collections.Counter()
        for s in self.socks:
            try:
                counts["bytes"] += s.send(data)
            except OSError:
                counts["errors"] += 1
        return counts

    def hear_all(self, code, seconds):
        """Waits until each session has been sent a line that begins with `code`, or is closed. Counts both, and
        other last codes of four or five hundred."""
        counts, sel, heard, end = collections.Counter(), selectors.DefaultSelector(), {}, time.monotonic() + seconds
        for s in self.socks:
            sel.register(s, selectors.EVENT_READ)
            heard[s] = b""
        while heard and time.monotonic() < end:
            for key, _ in sel.select(0.5):
                s = key.fileobj
                try:
                    data = s.recv(65536)
                except OSError:
                    data = b""
                heard[s] += data
                lines = heard[s].split(b"\r\n")
                good = any(x.startswith(code) for x in lines)
                bad = [x[:3].decode() for x in lines if x[:1] in b"45" and len(x) > 3]
                if good or bad or not data:
                    counts[code.decode() if good else bad[-1] if bad else "closed"] += 1
                    sel.unregister(s)
                    del heard[s]
        counts["silent"] = len(heard)
        return counts

    def close(self):
        for s in self.socks:
            s.close()
        self.socks = []
        return collections.Counter()


def serve(pipe, port, number):
    member = Member(port, number)
    while True:
        name, args = pipe.recv()
        if name == "end":
            return
        pipe.send(getattr(member, name)(*args))


class Crowd:
    def __init__(self, port, members=4):
        self.members = []
        context = multiprocessing.get_context("spawn")
        for i in range(members):
            ours, theirs = context.Pipe()
            p = context.Process(target=serve, args=(theirs, port, i), daemon=True)
            p.start()
            self.members.append((p, ours))

    def all(self, name, *args):
        for _, pipe in self.members:
            pipe.send((name, args))
        total = collections.Counter()
        for _, pipe in self.members:
            total += pipe.recv()
        return total

    def open(self, n, seconds=120):
        return self.all("open", n // len(self.members), seconds)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for p, pipe in self.members:
            pipe.send(("end", ()))
        for p, pipe in self.members:
            p.join(10)
            if p.is_alive():
                p.kill()
