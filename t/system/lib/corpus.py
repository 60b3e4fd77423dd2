"""Messages for the main job: those of Python's own e-mail tests, and generated ones, the same for the same seed."""
import pathlib
import random
import re

from .impetus import TOP

MAIL = TOP / "build/peers/mail"


def crlf(data):
    """Line ends as the wire has them: a lone CR or LF becomes CRLF."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", data)


def python_messages():
    return [crlf(p.read_bytes()) for p in sorted(MAIL.glob("*.txt"))]


def text(rng, n):
    return bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz .,;-=()0123456789") for _ in range(n))


def line(rng):
    kind = rng.randrange(12)
    if kind == 0:
        return b"." * rng.randint(1, 4) + text(rng, rng.randrange(4))
    if kind == 1:
        return "grüße, привет, 你好, \u00e9\U0001f600".encode() + text(rng, 5)
    if kind == 2:
        return bytes(rng.randrange(128, 256) for _ in range(rng.randrange(1, 60)))
    if kind == 3:
        return b"nul \0 in it" + b"\0" * rng.randrange(3)
    if kind == 4:
        return text(rng, rng.choice((998, 999, 997)))
    if kind == 5:
        return b""
    if kind == 6:
        return b"lone \r or \n, even \n.\n and \r.\r, stay" if rng.randrange(2) else b"tail\r"
    return text(rng, rng.randrange(76))


def generated(seed, n):
    """n messages, each a whole one with a header unless its number says otherwise."""
    for i in range(n):
        rng = random.Random("%s-%d" % (seed, i))
        head = [b"From: <g@source.test>", b"To: <r@dest.test>", b"Message-ID: <%d.%d@gen.test>" % (i, rng.getrandbits(30)),
                b"Subject: number %d" % i]
        if i % 7 == 3:
            head.append("X-Grüße: привет %d".encode().replace(b"%d", b"%d" % i))
        if i % 7 == 5:
            head.append(b"X-Folded: one\r\n two\r\n\tthree")
        body = b"".join(line(rng) + b"\r\n" for _ in range(rng.randrange(30)))
        if i % 50 == 7:
            body = b""
        if i % 50 == 11:                                    # no header at all: the first line is no field
            yield b"\r\n" + body if i % 100 == 11 else b"just text, no colon\r\n" + body
            continue
        if i % 200 == 13:
            body = text(rng, 100000) + b"\r\n" + body
        if i % 50 == 17:                                    # dots where buffers of 4, 8, 16, 64 KiB end
            for edge in (4096, 8192, 16384, 65536):
                body += text(rng, max(0, edge - len(body) - rng.randrange(1, 200) - 2)) + b"\r\n.\r\n..\r\n.x\r\n"
        yield b"\r\n".join(head) + b"\r\n\r\n" + body


def large(size=25 << 20):
    rng = random.Random("large")
    block = b"".join(text(rng, 74) + b"\r\n" for _ in range(1000)) + b".\r\n..dots\r\n"
    body = (block * (size // len(block) + 1))[:size - 2] + b"\r\n"
    return b"From: <g@source.test>\r\nSubject: large\r\n\r\n" + body


RECEIVED = re.compile(rb"\AReceived:[^\n]*\n(?:[ \t][^\n]*\n)*", re.I)
TRACE = re.compile(rb"\A(?:(?:Received|Return-Path):[^\n]*\n(?:[ \t][^\n]*\n)*)+", re.I)


def without_trace(data):
    """The message as it was before one Received field was put on top."""
    return RECEIVED.sub(b"", data, 1)


def without_traces(data):
    """Without any trace field on top: for mail that went through several servers."""
    return TRACE.sub(b"", data, 1)
