"""The dialogues of t/smtp, played on the running daemon; t/smtp/README has their language. A second in them is a moment
here: what matters is that bytes come apart."""
import collections
import fnmatch
import pathlib
import re
import select
import socket
import time

import pytest

from lib.impetus import TOP, wait_until

MOMENT = 0.05
FILES = sorted((TOP / "t/smtp").glob("*.dlg"))
CONFIG = """
hostname = "mx.test"
spoolbase = "{spool}"
{routing}
Control_Listener {{ Listen "{control}" {{ }} }}
%s
ec_logger "ec_logger" {{ mainlog = "{logs}/mainlog" rejectlog = "{logs}/rejectlog" paniclog = "{logs}/paniclog" }}
{security}
{extra}
"""


def unescape(text):
    """As in C, and \\{N}X is N times X."""
    out, i, raw = bytearray(), 0, text.encode()
    names = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
    while i < len(raw):
        if raw[i:i + 1] != b"\\":
            out += raw[i:i + 1]
            i += 1
        elif raw[i + 1:i + 2] == b"{":
            end = raw.index(b"}", i)
            out += raw[end + 1:end + 2] * int(raw[i + 2:end])
            i = end + 2
        elif raw[i + 1:i + 2] == b"x":
            out.append(int(raw[i + 2:i + 4], 16))
            i += 4
        elif raw[i + 1:i + 2] in names:
            out += names[raw[i + 1:i + 2]]
            i += 2
        else:
            out += b"\\"
            i += 1
    return bytes(out)


class Play:
    def __init__(self, mta, source):
        self.sock = socket.create_connection(("127.0.0.1", mta.port), 20, source_address=(source, 0))
        self.got, self.mails, self.closed = b"", [], False

    def read(self, seconds):
        """Whether anything came within that time."""
        if self.closed or not select.select([self.sock], [], [], seconds)[0]:
            return False
        data = self.sock.recv(65536)
        self.closed = not data
        self.got += data
        return bool(data)

    def nothing_said(self):
        self.read(0)
        assert not self.got

    def server_says(self, pattern):
        while b"\n" not in self.got:
            assert self.read(20), "wanted %r, nothing was said (%r)" % (pattern, self.got)
        line, self.got = self.got.split(b"\n", 1)
        text = line.decode("latin-1")
        assert text.endswith("\r")
        assert text[:-1] == pattern or fnmatch.fnmatchcase(text[:-1], pattern)

    def line(self, word, rest):
        if word in ("C:", "C|"):
            self.nothing_said()
            self.sock.sendall(unescape(rest) if word == "C|" else rest.encode() + b"\r\n")
        elif word == "S:":
            self.server_says(rest)
        elif word == "NONE":
            self.read(MOMENT)
            assert not self.got
        elif word == "CLOSED":
            while not self.closed:
                assert self.read(20) or self.closed
            assert not self.got
        elif word == "WAIT":
            time.sleep(MOMENT * int(rest))
        elif word == "MAIL":
            rcpts, content = rest.split("| ", 1)
            self.mails += [(r, content) for r in unescape(rcpts).decode("utf-8", "replace").split(" ") if r]
        else:
            assert word == "NOMAIL", word


def join_quoted(words):
    """A quoted local part may hold blanks: its words belong together."""
    out = []
    for rcpt, content in words:
        if out and out[-1][0].count('"') % 2 == 1 and out[-1][1] is content:
            out[-1] = (out[-1][0] + " " + rcpt, content)
        else:
            out.append((rcpt, content))
    return out


def parse(path):
    conf, source, lines = [], "127.0.0.1", []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if word == "CONF":
            conf.append(rest)
        elif word == "FROM":
            source = rest
        elif word and not word.startswith("#"):
            lines.append((number, word, rest))
    return "\n".join(conf), source, lines


def config(text):
    if "ESMTP_Listener" not in text:
        text += '\nESMTP_Listener { Listen "127.0.0.1:0" { } }'
    text = text.replace("{", "{{").replace("}", "}}")
    return CONFIG % text.replace('"127.0.0.1:0"', '"127.0.0.1:{port}"')


def without_our_field(data):
    return re.sub(rb"\AReceived: [^\n]*\n(?:\t[^\n]*\n)*", b"", data, count=1)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_dialogue(path, make, sink):
    conf, source, lines = parse(path)
    mta = make(sink_port=sink.port, config=config(conf))
    play = Play(mta, source)
    for number, word, rest in lines:
        try:
            play.line(word, rest)
        except AssertionError as e:
            raise AssertionError("%s:%d: %s" % (path.name, number, e)) from e
    play.sock.close()
    want = join_quoted(play.mails)
    wait_until(lambda: sum(len(m.rcpts) for m in sink.mails) >= len(want), 30, what="%d deliveries" % len(want))
    got = collections.defaultdict(list)
    for m in sink.mails:
        for r in m.rcpts:
            got[r.lower()].append(without_our_field(m.data))
    for rcpt, content in want:
        exact = [d for d in got[rcpt.lower()] if content == "*" or d == unescape(content)]
        assert exact, "%s: no message for %s is %r: %r" % (path.name, rcpt, content[:200], got[rcpt.lower()][:3])
        got[rcpt.lower()].remove(exact[0])
    assert not any(got.values()), got
    assert sum("@R@" in line for line in mta.log("mainlog")) == len(want)


def test_they_are_all_there():
    assert len(FILES) >= 10 and all(isinstance(p, pathlib.Path) for p in FILES)
