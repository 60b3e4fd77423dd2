"""The two ends of a mail's way, for tests: a client that sends exact bytes, and a sink that records exact bytes."""
import collections
import re
import socket
import socketserver
import threading


class Client:
    """An SMTP client that hides nothing: bytes out, reply lines in."""

    def __init__(self, port, host="127.0.0.1", timeout=20, source=None):
        self.sock = socket.create_connection((host, port), timeout, source_address=source)
        self.file = self.sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data)

    def reply(self):
        """One whole reply: (code, text lines joined by newline). Code 0 is the end of the connection."""
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                return 0, "\n".join(lines)
            lines.append(line[4:].rstrip(b"\r\n").decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(lines)

    def cmd(self, line):
        if isinstance(line, str):
            line = line.encode()
        self.send(line + b"\r\n")
        return self.reply()

    def greet(self, name="client.test"):
        banner = self.reply()
        assert banner[0] == 220, banner
        got = self.cmd("EHLO " + name)
        assert got[0] == 250, got
        return got

    def mail(self, sender, rcpts, data, params=""):
        """One transaction; data is the message as it is, before transparency. Gives the reply to it."""
        got = self.cmd("MAIL FROM:<%s>%s" % (sender, params))
        if got[0] != 250:
            return got
        for r in rcpts:
            got = self.cmd("RCPT TO:<%s>" % r)
            if got[0] != 250:
                return got
        got = self.cmd("DATA")
        if got[0] != 354:
            return got
        self.send(stuff(data) + b".\r\n")
        return self.reply()

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def stuff(data):
    """Transparency (RFC 5321 section 4.5.2): a dot at a line's start is doubled; lines end in CRLF only."""
    if data.startswith(b"."):
        data = b"." + data
    data = data.replace(b"\r\n.", b"\r\n..")
    return data if data.endswith(b"\r\n") or not data else data + b"\r\n"


def read_data(f):
    """The sink's side: bytes up to CRLF.CRLF, transparency undone; None when the connection ends before."""
    out, at_start = [], True
    while True:
        line = f.readline(1 << 20)
        if not line:
            return None
        if at_start and line == b".\r\n":
            return b"".join(out)
        if at_start and line.startswith(b"."):
            line = line[1:]
        out.append(line)
        at_start = line.endswith(b"\r\n") or (line == b"\n" and len(out) > 1 and out[-2].endswith(b"\r"))


Mail = collections.namedtuple("Mail", "sender rcpts data port helo params")
ID = re.compile(r"\b[0-9a-f]{2}/[0-9a-f]{2}-\d{5}-[0-9a-f]{8}\b")


class Sink:
    """Records every message. `answer(stage, text, session)` may return a reply (bytes), None for the usual one, or
    "drop" to close the connection; stages: connect, ehlo, mail, rcpt, data, dot."""

    def __init__(self, answer=None, host="127.0.0.1", port=0, extensions=(b"PIPELINING", b"8BITMIME", b"SMTPUTF8",
                                                                        b"SIZE 100000000")):
        self.mails, self.lock, self.answer, self.ext = [], threading.Condition(), answer, extensions
        self.connections, self.open = 0, set()
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            wbufsize, disable_nagle_algorithm = 0, True

            def handle(self):
                with sink.lock:
                    sink.open.add(self.request)
                try:
                    sink.session(self)
                except OSError:
                    pass
                with sink.lock:
                    sink.open.discard(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 512
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def ask(self, stage, text, h, usual):
        got = self.answer(stage, text, h) if self.answer else None
        if got == "drop":
            raise ConnectionAbortedError()
        h.wfile.write(usual if got is None else got)
        return usual if got is None else got

    def session(self, h):
        with self.lock:
            self.connections += 1
        h.sender, h.rcpts, h.helo, h.params = None, [], b"", b""
        self.ask("connect", b"", h, b"220 sink.test ESMTP\r\n")
        while True:
            line = h.rfile.readline(65536)
            if not line:
                return
            verb, _, rest = line.rstrip(b"\r\n").partition(b" ")
            verb = verb.upper()
            if verb in (b"EHLO", b"HELO"):
                h.helo = rest
                lines = [b"sink.test"] + (list(self.ext) if verb == b"EHLO" else [])
                self.ask("ehlo", rest, h, b"".join(b"250-%s\r\n" % x for x in lines[:-1]) + b"250 %s\r\n" % lines[-1])
            elif verb == b"MAIL":
                path = re.match(rb"FROM:<([^>]*)>(.*)", rest, re.I)
                h.sender, h.rcpts, h.params = path[1], [], path[2].strip()
                if self.ask("mail", h.sender, h, b"250 2.1.0 ok\r\n")[:1] != b"2":
                    h.sender = None
            elif verb == b"RCPT":
                rcpt = re.match(rb"TO:<([^>]*)>", rest, re.I)[1]
                if self.ask("rcpt", rcpt, h, b"250 2.1.5 ok\r\n")[:1] == b"2":
                    h.rcpts.append(rcpt)
            elif verb == b"DATA":
                if not h.rcpts:
                    h.wfile.write(b"554 5.5.1 no valid recipients\r\n")
                    continue
                if self.ask("data", b"", h, b"354 go on\r\n")[:1] != b"3":
                    continue
                data = read_data(h.rfile)
                if data is None:
                    return
                self.dot(h, data)
            elif verb == b"RSET":
                h.sender, h.rcpts = None, []
                h.wfile.write(b"250 2.0.0 ok\r\n")
            elif verb == b"QUIT":
                h.wfile.write(b"221 2.0.0 bye\r\n")
                return
            elif verb == b"NOOP":
                h.wfile.write(b"250 2.0.0 ok\r\n")
            else:
                h.wfile.write(b"502 5.5.2 not known\r\n")

    def dot(self, h, data):
        mail = Mail(h.sender.decode("utf-8", "replace"), [r.decode("utf-8", "replace") for r in h.rcpts], data,
                    h.client_address[1], h.helo.decode(), h.params.decode())
        # Recorded before the answer: a peer that gets no answer may have delivered all the same.
        got = self.answer("dot", data, h) if self.answer else None
        if got is None or got == "drop" or got[:1] == b"2":
            with self.lock:
                self.mails.append(mail)
                self.lock.notify_all()
        if got == "drop":
            raise ConnectionAbortedError()
        h.wfile.write(got or b"250 2.0.0 taken\r\n")
        h.sender, h.rcpts = None, []

    def wait(self, n, timeout=30):
        """Until n messages are there; gives them all."""
        with self.lock:
            self.lock.wait_for(lambda: len(self.mails) >= n, timeout)
            assert len(self.mails) >= n, "%d of %d messages arrived" % (len(self.mails), n)
            return list(self.mails)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for s in list(self.open):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
