"""The bench's own tools do not lie: what load says it sent, impetusd says it has, and sink says it got, is the same; and
sink sees what is lost, doubled or altered."""
import contextlib
import re
import signal
import subprocess

import pytest
from lib.impetus import BUILD, free_port, wait_until
from lib.smtp import Client

N = 3000


def counts(line):
    return {k: float(v) for k, v in re.findall(r"(\w+)=([\d.]+)", line)}


@contextlib.contextmanager
def bench_sink(*args):
    """Yields port and a function that ends it and returns its counts."""
    port = free_port()
    p = subprocess.Popen([str(BUILD / "t/bench/sink"), "-a", str(port), *args], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().startswith("run ")
    last = {}

    def end():
        p.send_signal(signal.SIGTERM)
        lines = p.stdout.read().splitlines()
        assert p.wait() == 0
        last.update(counts(lines[-1]))
        assert lines[-1].startswith("end ")
        return last
    try:
        yield port, end
    finally:
        p.kill()
        p.wait()


def load(port, *args, rc=0):
    p = subprocess.run([str(BUILD / "t/bench/load"), "-a", str(port), *args], stdout=subprocess.PIPE, text=True)
    assert p.returncode == rc, p
    return counts(p.stdout.splitlines()[-1])


@pytest.mark.parametrize("args", [("-s", "20"), ("-s", "20", "-p", "2", "-P", "-n", "10", "-d", "7"), ("-s", "20", "-1"),
                                  ("-s", "20", "-l", "60000")], ids=["kept", "many", "one", "large"])
def test_what_load_sends_comes_whole_and_once(make, args):
    n = N if "-l" not in args else 300
    with bench_sink("-p", "2") as (port, end):
        m = make(port)
        sent = load(m.port, "-m", str(n), *args)
        assert (sent["ok"], sent["sent"]) == (n, n)
        assert all(sent[k] == 0 for k in ("temp", "perm", "lost", "unfinished", "odd", "noconn", "shut")), sent
        wait_until(lambda: m.json("ledger")["queued"] == 0, 60, what="an empty queue")
        ledger = m.json("ledger")
        got = end()
    assert ledger["accepted"] == ledger["delivered"] == n and ledger["difference"] == 0
    assert got["rcpts"] == n and all(got[k] == 0 for k in ("again", "altered", "foreign", "cut", "odd")), got


def test_each_recipient_ends_in_one_count(make):
    """Directly into a sink that refuses here and there: the two sides agree on each."""
    for pipelining in (), ("-P",):
        with bench_sink("-x", "rcpt=451/10", "-x", "dot=554/7", "-x", "mail=close/50", "-x", "banner=421/3") as (port, end):
            sent = load(port, "-s", "10", "-m", str(N), "-w", "1", *pipelining)
            got = end()
        assert sent["ok"] == got["rcpts"] > 0 and got["again"] == got["altered"] == 0
        assert sent["ok"] + sent["temp"] + sent["perm"] + sent["lost"] == N and sent["unfinished"] == 0
        assert sent["temp"] > 0 and sent["perm"] > 0 and sent["lost"] > 0 and sent["shut"] > 0
        assert got["refused"] == sent["temp"] + sent["perm"] + sent["lost"] + sent["shut"]


BODY = b"From: <f@s.test>\r\nX-Bench: 0000002a 192\r\n\r\n%s" + b"%08x %053d\r\n" % (42, 0)


def test_sink_sees_what_is_doubled_or_altered():
    with bench_sink() as (port, end), Client(port) as c:
        assert load(port, "-m", "1", "-b", "41", "-l", "192")["ok"] == 1
        # As load writes it, but for what is tested: unaltered first, to show that it is the same.
        lines = [b"000000 ", b"000001 "]
        text = b"The quick brown fox jumps over the lazy dog, 0123456789"
        fill = b"".join(x + text[:62 - len(x)] + b"-" * (62 - len(x) - len(text)) + b"\r\n" for x in lines)
        c.greet()
        for body in (fill, fill, fill.replace(b"fox", b"fex", 1), fill[:64]):
            assert c.mail("f@s.test", ["r0@d.test"], BODY % body)[0] == 250
        assert c.mail("f@s.test", ["r0@d.test"], b"Subject: mine\r\n\r\nx\r\n")[0] == 250
        got = end()
    assert (got["msgs"], got["again"], got["altered"], got["foreign"]) == (6, 3, 2, 1), got


def test_idle_sessions_are_held_and_given_back(make):
    m = make(free_port())
    p = subprocess.Popen([str(BUILD / "t/bench/load"), "-a", str(m.port), "-s", "50", "-i", "-S", "5"],
                         stdout=subprocess.PIPE, text=True)
    assert any(counts(line)["idle"] == 50 for line in iter(p.stdout.readline, ""))
    p.send_signal(signal.SIGTERM)
    last = counts(p.stdout.read().splitlines()[-1])
    assert p.wait() == 0
    assert (last["conns"], last["open"], last["ended"], last["noconn"]) == (50, 0, 0, 0), last
