"""why: each cause that can hold a message, set up for real; the chain names it, its limit, its place, what was seen, its end."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from lib.impetus import wait_until
from lib.smtp import Client, Sink
from test_console import ctl_refused

DOWN = 'gateway = "127.0.0.1"\nremote_smtp_port = 1'
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


class Gate:
    """A sink whose messages stop before the answer to DATA until it opens."""

    def __init__(self):
        self.opened, self.waiting = threading.Event(), threading.Semaphore(0)
        self.sink = Sink(self.answer)

    def answer(self, stage, text, session):
        if stage == "data" and not self.opened.is_set():
            self.waiting.release()
            self.opened.wait(60)

    def reached(self, n=1):
        for _ in range(n):
            assert self.waiting.acquire(timeout=20)

    def close(self):
        self.opened.set()
        self.sink.close()


@pytest.fixture
def gate():
    g = Gate()
    yield g
    g.close()


def send(m, *rcpts):
    """One message a recipient; their ids."""
    ids = []
    with Client(m.port) as c:
        c.greet()
        for rcpt in rcpts:
            code, text = c.mail("s@source.test", [rcpt], b"Subject: x\r\n\r\nthe body\r\n")
            assert code == 250, text
            ids.append(text.split()[-1])
    return ids


def holds(m, what):
    return [h for h in m.json("why", what)["chain"] if h["holds"]]


def held(m, what, cause):
    """Waits for the hold of that cause; it and the text for people."""
    def look():
        found = [h for h in holds(m, what) if h["cause"].startswith(cause)]
        return found[0] if found else None
    h = wait_until(look, what="the hold %r of %s: %s" % (cause, what, m.json("why", what)))
    text = m.ctl("why", what)
    print("\n".join(line for line in text.splitlines() if line.startswith("  ")))
    assert h["cause"] in text and h["evidence"] in text and h["set"] in text
    return h


def line_of(m, option):
    for n, line in enumerate(m.conf.read_text().splitlines(), 1):
        if re.search(r"\b%s\w* =" % option, line):
            return "%s:%d" % (m.conf, n)
    raise AssertionError(option)


def limit(h):
    return h["level"], h["limit"], h["value"], h["set"]


def test_connection_limit_of_binding_and_domain(make, gate):
    m = make(gate.sink.port, extra="max_outbound_connections = 1")
    one, two = send(m, "a@example.com", "b@example.com")
    gate.reached()
    text = wait_until(lambda: next((t for t in (m.ctl("why", i) for i in (one, two)) if "in work now: " in t or "in work now;" in t), None))
    assert "connection to 127.0.0.1:%d" % gate.sink.port in text and "data, since" in text
    working = one if m.ctl("why", one) == text or "in work now" in m.ctl("why", one) else two
    h = held(m, two if working == one else one, "connection limit of binding and domain")
    assert limit(h) == ("queue", "max_outbound_connections", "1", line_of(m, "max_outbound"))
    assert "1 in use" in h["evidence"] and "127.0.0.1:%d" % gate.sink.port in h["evidence"] and h["lets_go"]
    gate.opened.set()
    gate.sink.wait(2)
    assert wait_until(lambda: over(m, two))["state"] == "not queued"


def ask(m, *words):
    r = subprocess.run([str(m.build / "impetusctl"), "-s", str(m.control), *words], stdout=subprocess.PIPE, text=True, timeout=30)
    return r.returncode, r.stdout


def over(m, what):
    """What is said of a message that is not queued; None: it is."""
    status, out = ask(m, "--json", "why", what)
    assert status in (0, 3), (status, out)
    return json.loads(out) if status == 3 else None


def test_connection_limit_of_the_server(make, gate):
    m = make(gate.sink.port, extra="server_max_outbound_connections = 1\nidle_timeout = 1")
    one, = send(m, "a@example.com")
    gate.reached()
    two, = send(m, "b@sub.example.com")
    h = held(m, two, "connection limit of the server")
    assert limit(h) == ("server", "server_max_outbound_connections", "1", line_of(m, "server_max"))
    assert "1 in use" in h["evidence"]
    gate.opened.set()
    gate.sink.wait(2)


def test_connection_limit_of_a_binding(make, gate):
    m = make(gate.sink.port, extra='Binding "slow" { server_max_outbound_connections = 1 }', script="""
        local mod = {}
        function mod:validate_set_binding(msg) msg:binding("slow") return msys.core.VALIDATE_CONT end
        msys.registerModule("site", mod)""")
    send(m, "a@example.com")
    gate.reached()
    two, = send(m, "b@sub.example.com")
    h = held(m, two, "connection limit of the binding")
    assert limit(h) == ("binding", "server_max_outbound_connections", "1", line_of(m, "server_max"))


def test_message_throttle(make, sink):
    m = make(sink.port, extra='Domain "example.com" {\noutbound_throttle_messages = "1/3600"\n}')
    ids = send(m, "a@example.com", "b@example.com")
    sink.wait(1)
    left = [i for i in ids if over(m, i) is None]
    h = held(m, left[-1], "message throttle")
    assert limit(h) == ("domain", "outbound_throttle_messages", "1/3600", line_of(m, "outbound_throttle"))
    assert 3500 < h["until"] - time.time() <= 3601


def test_suspended_binding(make, sink):
    m = make(sink.port)
    m.ctl("binding", "suspend", "default")
    one, = send(m, "a@example.com")
    h = held(m, one, "the binding is suspended")
    who = re.match(r"(root|uid \d+), (.*)$", h["set"])
    assert (h["level"], h["limit"]) == ("binding", "binding suspend") and who and MOMENT.match(who[2])
    assert "binding resume" in h["lets_go"] and h["until"] == 0
    m.stop()
    m.start()
    assert held(m, one, "the binding is suspended")["set"] == h["set"]
    m.ctl("binding", "resume", "default")
    sink.wait(1)


def test_suspended_domain(make, sink):
    m = make(sink.port, extra='Domain "example.com" {\n  suspend_delivery = true\n}')
    one, = send(m, "a@example.com")
    h = held(m, one, "the domain is suspended")
    assert limit(h) == ("domain", "suspend_delivery", "true", line_of(m, "suspend_delivery"))
    # The console's word goes over the configuration's, in both directions; then both are seen as they are.
    m.ctl("binding", "suspend", "default")
    # Right after the start its owner may say as well that it is starting.
    wait_until(lambda: [x["level"] for x in holds(m, one)] == ["binding"], what="the binding's hold alone")
    m.ctl("binding", "resume", "default")
    sink.wait(1)


def test_retry_time_after_4xx(make):
    busy = Sink(lambda stage, text, h: b"450 4.2.1 mailbox busy, come back\r\n" if stage == "rcpt" else None)
    try:
        m = make(busy.port)
        one, = send(m, "a@example.com")
        h = held(m, one, "waits for its next try: refused for now")
        assert limit(h) == ("message", "retry_interval", "60", line_of(m, "retry_interval"))
        assert "450 4.2.1 mailbox busy, come back" in h["evidence"] and MOMENT.search(h["evidence"])
        assert "127.0.0.1:%d" % busy.port in h["evidence"] and 0 < h["until"] - time.time() <= 61
        m.kill_all()    # the answer, its time and its host outlive the worker that heard them
        m.start()
        assert held(m, one, "waits for its next try: refused for now")["evidence"] == h["evidence"]
    finally:
        busy.close()


def test_refused_connection(make):
    m = make(routing=DOWN)
    one, = send(m, "a@example.com")
    h = held(m, one, "waits for its next try: no connection")
    assert h["limit"] == "retry_interval" and "127.0.0.1:1" in h["evidence"]
    host = [x for x in m.json("why", one)["chain"] if x["level"] == "host"][0]
    assert "Connection refused" in host["evidence"] and "127.0.0.1:1 failed" in host["evidence"]


def test_timeout_at_the_banner(make):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        m = make(mute.getsockname()[1], extra="ehlo_timeout = 1")
        one, = send(m, "a@example.com")
        h = held(m, one, "waits for its next try: no greeting in time")
        assert "no banner" in h["evidence"] and "127.0.0.1:%d" % mute.getsockname()[1] in h["evidence"]
        wait = [x for x in m.json("why", one)["chain"] if x["limit"] == "ehlo_timeout"][0]
        assert (wait["level"], wait["value"], wait["set"], wait["holds"]) == ("host", "1", line_of(m, "ehlo_timeout"), 0)
        m.stop()


def test_dns_failure(make, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1:%d\noptions timeout:1 attempts:1\n" % silent.getsockname()[1])
        m = make(extra='resolv_conf = "%s"' % (tmp_path / "resolv.conf"))
        one, = send(m, "a@example.com")
        h = held(m, one, "waits for its next try: DNS failure")
        assert "Domain Lookup Failed" in h["evidence"] and h["limit"] == "retry_interval" and h["until"] > time.time()


def test_no_room_for_resident_memory(make, gate):
    m = make(gate.sink.port, workers=1, extra="max_resident_memory = 1")
    send(m, "a@example.com")
    gate.reached()
    two, = send(m, "b@sub.example.com")
    h = held(m, two, "no room for resident messages")
    assert limit(h) == ("worker", "max_resident_memory", "1", line_of(m, "max_resident"))
    assert h["evidence"].startswith("1 messages")
    gate.opened.set()
    gate.sink.wait(2)


def test_no_room_for_resident_messages(make, gate):
    m = make(gate.sink.port, workers=1, extra="max_resident_messages = 1")
    send(m, "a@example.com")
    gate.reached()
    two, = send(m, "b@sub.example.com")
    h = held(m, two, "no room for resident messages")
    assert limit(h) == ("worker", "max_resident_messages", "1", line_of(m, "max_resident"))
    assert h["evidence"].startswith("1 messages")
    gate.opened.set()
    gate.sink.wait(2)


def test_in_doubt_and_held(make):
    rude = Sink(lambda stage, text, h: "drop" if stage == "dot" else None)
    try:
        m = make(rude.port, extra='in_doubt = "hold"')
        one, = send(m, "a@example.com")
        h = held(m, one, "in doubt, and held")
        assert limit(h) == ("message", "in_doubt", "hold", line_of(m, "in_doubt"))
        assert "nobody knows how try 1 ended, since" in h["evidence"] and "indoubt retry" in h["lets_go"]
        assert "127.0.0.1:%d" % rude.port in h["evidence"]
    finally:
        rude.close()


LATER = """
local mod = {}
function mod:validate_set_binding(msg)
  local hours = tonumber(msg:header("X-Hours")[1]) or 0
  if hours > 0 then msg:delay_until(msys.core.get_now_ts() + hours * 3600) end
  return msys.core.VALIDATE_CONT
end
msys.registerModule("site", mod)
"""


def test_a_time_set_by_a_script(make, sink):
    m = make(sink.port, script=LATER)
    with Client(m.port) as c:
        c.greet()
        code, text = c.mail("s@source.test", ["a@example.com"], b"Subject: x\r\nX-Hours: 2\r\n\r\nx\r\n")
    one = text.split()[-1]
    send(m, "b@example.com")
    sink.wait(1)
    h = held(m, one, "a script has set its time")
    assert (h["level"], h["limit"]) == ("message", "msg:delay_until") and 7100 < h["until"] - time.time() <= 7201
    m.kill_all()
    m.start()
    assert held(m, one, "a script has set its time")["until"] == h["until"]
    m.ctl("message", "retry", one)
    sink.wait(2)


# ---- what is not one of the causes


def test_several_at_once_in_the_order_of_the_chain(make):
    m = make(routing=DOWN)
    one, = send(m, "a@example.com")
    held(m, one, "waits for its next try")
    m.ctl("binding", "suspend", "default")
    levels = [h["level"] for h in m.json("why", one)["chain"]]
    order = ["message", "queue", "binding", "domain", "host", "server", "worker"]
    assert levels == sorted(levels, key=order.index) and {"message", "binding", "host"} <= set(levels)


def test_queues(make):
    m = make(routing=DOWN, extra='Binding "out1" { }', script="""
        local mod = {}
        function mod:validate_set_binding(msg)
          if msg:rcptto():sub(1, 1) == "o" then msg:binding("out1") end
          return msys.core.VALIDATE_CONT
        end
        msys.registerModule("site", mod)""")
    send(m, "a@example.com", "b@example.com", "o@example.com")
    wait_until(lambda: sum(q["delayed"] for q in m.json("mailq")["queues"]) == 3, what="three delayed")
    both = m.json("why", "EXAMPLE.com")
    assert sorted((q["binding"], q["queued"]) for q in both["queues"]) == [("default", 2), ("out1", 1)]
    assert {h["binding"] for h in both["chain"] if h["cause"].startswith("waits for its next try")} == {"default", "out1"}
    one = m.json("why", "out1/example.com")
    assert [q["binding"] for q in one["queues"]] == ["out1"] and one["holding"] > 0
    text = m.ctl("why", "out1/example.com")
    assert text.startswith("out1/example.com: 1 queued") and "waits for its next try" in text


def test_processes_that_stand_still(make):
    m = make(routing=DOWN)
    one, = send(m, "a@example.com")
    held(m, one, "waits for its next try")
    owner, keeper = m.json("why", one)["owner_pid"], m.children("keeper")[0][0]
    os.kill(owner, signal.SIGSTOP)
    try:
        h = held(m, one, "the worker that owns the queue did not answer")
        assert h["level"] == "worker" and [x["level"] for x in holds(m, one)][0] == "message"
        os.kill(keeper, signal.SIGSTOP)
        assert "the keeper does not commit" in m.ctl("why", one) and held(m, one, "waits for its next try")
    finally:
        for pid in (owner, keeper):
            os.kill(pid, signal.SIGCONT)


def test_words_that_are_off(make, sink):
    m = make(sink.port)
    for word, want in (("nosuch.test", "no mail is queued for nosuch.test"),
                       ("a/", "usage: why"), ("/b.test", "usage: why"), ("", "usage: why"),
                       ("nosuch/b.test", "no mail is queued for nosuch/b.test")):
        assert want in ctl_refused(m, "why", word), word


def test_a_message_that_is_over(make):
    """Delivered, bounced, or decided after a doubt: the exit status, the end as far as the index has it, and where to look."""
    lost = []

    def answer(stage, text, session):
        if stage == "rcpt" and b"bad" in text:
            return b"550 5.1.1 no\r\n"
        if stage == "dot" and any(b"doubt" in r for r in session.rcpts) and not lost:
            lost.append(1)
            return "drop"
    s = Sink(answer)
    m = make(s.port, extra="in_doubt = hold\nretry_interval = 1")
    good, bad, doubt = send(m, "good@example.com", "bad@example.com", "doubt@doubt.example.com")
    for id, letter in ((good, "D"), (bad, "P")):
        said = wait_until(lambda: over(m, id), what="the end of " + id)
        assert said["id"] == id and said["state"] == "not queued" and "became" not in said, said
        assert abs(said["made"] - time.time()) < 600
        found = subprocess.run(said["find"], shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout
        assert found.splitlines()[-1].split("@")[4] == letter, found
        status, text = ask(m, "why", id)
        assert status == 3 and said["find"] in text and str(m.logs / "mainlog") in text
    wait_until(lambda: [a for a in m.json("indoubt", "list")["attempts"] if a["state"] == "held"], what="the doubt")
    assert over(m, doubt) is None
    m.ctl("indoubt", "done", doubt)
    said = wait_until(lambda: over(m, doubt), what="the end of the doubt")
    assert said["became"] == "delivered" and said["try_in_doubt"] == 1, said
    assert over(m, "ff/ff-65535-ffffffff")["state"] == "never here"
    assert over(m, "00/00-00000-00000001")["state"] == "not queued"
    s.close()


def test_a_bind_address_that_is_not_ours(make, gate):
    m = make(gate.sink.port, extra='bind_address = "192.0.2.77"')
    ident, = send(m, "a@example.com")
    text = "cannot bind 192.0.2.77: Cannot assign requested address"
    wait_until(lambda: text in m.ctl("why", ident), what="the cause")
    for tries in (2, 3):
        m.ctl("message", "retry", ident)
        wait_until(lambda: len([x for x in m.log("mainlog") if text in x]) >= tries, what="try %d in the mainlog" % tries)
    said = wait_until(lambda: [x for x in m.log("paniclog") if text in x], what="the paniclog's line")
    assert 1 <= len(said) <= 2 and "binding default" in said[0], said     # each worker for itself
