"""The main job over real sockets: every message arrives exactly once, byte for byte but for trace fields."""
import collections
import subprocess
import time

import pytest
from lib import corpus
from lib.impetus import wait_until
from lib.smtp import Client, Sink, stuff

SCRIPT = """
require("msys.core")
local mod = {}
for _, name in ipairs({ "connect", "ehlo", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt", "set_binding" }) do
  mod["validate_" .. name] = function() return msys.core.VALIDATE_CONT end
end
function mod:core_final_validation() end
msys.registerModule("site", mod)
"""


def test_one_message_passes_all_phases_and_arrives(make, sink):
    m = make(sink.port, script=SCRIPT)
    body = b"Subject: one\r\n\r\n.dot\r\n..two\r\nend\r\n"
    with Client(m.port) as c:
        c.greet()
        code, text = c.mail("a@source.test", ["b@example.com"], body)
        assert code == 250 and text.startswith("2.0.0 ")
    mail = sink.wait(1)[0]
    assert corpus.without_trace(mail.data) == body
    assert mail.sender == "a@source.test" and mail.rcpts == ["b@example.com"]
    received = mail.data.split(b"\r\nSubject", 1)[0].decode()
    message_id = text.split()[-1]
    assert received.startswith("Received: from ") and "helo=client.test" in received
    assert message_id in received and "by mx.example.test" in received
    wait_until(lambda: any("@D@" in x for x in m.log("mainlog")), what="the delivery line")
    lines = [x.split("@") for x in m.log("mainlog")]
    assert [f[4] for f in lines if len(f) > 5] == ["R", "D"]
    assert all(f[1] == message_id for f in lines if len(f) > 5)
    ledger = m.json("ledger")
    assert (ledger["accepted"], ledger["delivered"], ledger["queued"], ledger["difference"]) == (1, 1, 0, 0)


def test_the_corpus_arrives_once_and_unchanged(make, sink):
    m = make(sink.port, script=SCRIPT)
    sent = collections.Counter()
    messages = corpus.python_messages() + list(corpus.generated("main job", 2000))
    with Client(m.port, timeout=60) as c:
        c.greet()
        for i, data in enumerate(messages):
            code, text = c.mail("s%d@source.test" % i, ["r%d@example.com" % i], data)
            assert code == 250, (i, code, text, data[:200])
            sent[("s%d@source.test" % i, "r%d@example.com" % i, unstuffed(data))] += 1
    mails = sink.wait(len(messages), 120)
    got = collections.Counter((x.sender, r, corpus.without_trace(x.data)) for x in mails for r in x.rcpts)
    missing, extra = sent - got, got - sent
    assert not missing and not extra, (len(missing), len(extra), list(missing)[:1], list(extra)[:1])
    ledger = m.json("ledger")
    assert ledger["difference"] == 0 and ledger["accepted"] == len(messages)
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")


def unstuffed(data):
    """What the wire carries: a message always ends in CRLF."""
    return data if data.endswith(b"\r\n") or not data else data + b"\r\n"


def test_a_thousand_recipients(make, sink):
    m = make(sink.port)
    rcpts = ["r%d@example.com" % i for i in range(1000)]
    with Client(m.port) as c:
        c.greet()
        assert c.mail("s@source.test", rcpts, b"Subject: many\r\n\r\nx\r\n")[0] == 250

    def all_there():
        with sink.lock:
            return sum(len(x.rcpts) for x in sink.mails) >= 1000
    wait_until(all_there, 60, what="1000 recipients")
    got = collections.Counter(r for x in sink.mails for r in x.rcpts)
    assert got == collections.Counter(rcpts)


def test_25_mb(make, sink):
    m = make(sink.port, listener="max_message_size = 0")
    data = corpus.large()
    with Client(m.port, timeout=60) as c:
        c.greet()
        assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
        assert c.cmd("RCPT TO:<r@example.com>")[0] == 250
        assert c.cmd("DATA")[0] == 354
        c.send(stuff(data) + b".\r\n")
        assert c.reply()[0] == 250
    assert corpus.without_trace(sink.wait(1, 60)[0].data) == data
    wait_until(lambda: not list((m.spool / "journal").glob("*.seg.body")) and m.json("ledger")["queued"] == 0,
               what="an empty spool")


def test_smuggling_does_not_end_data(make, sink):
    m = make(sink.port)
    for i, end in enumerate((b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\x00.\r\n",
                             b"\n\n.\r\n", b"\r\r\n.\r\r\n")):
        for wait in (0, 1):
            with Client(m.port) as c:
                c.greet()
                assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
                assert c.cmd("RCPT TO:<r%d@example.com>" % i)[0] == 250
                assert c.cmd("DATA")[0] == 354
                smuggled = b"MAIL FROM:<evil@source.test>\r\nRCPT TO:<v@example.com>\r\nDATA\r\nx\r\n"
                c.send(b"Subject: outer\r\n\r\nbody" + end)
                time.sleep(wait)
                c.send(smuggled + b"\r\n.\r\n")
                code, _ = c.reply()
                assert code in (250, 550), (end, code)
                assert c.cmd("NOOP")[0] == 250, "the rest was taken for commands after %r" % end
    time.sleep(0.5)
    assert not [x for x in sink.mails if x.sender == "evil@source.test"]


def test_relay_is_denied_in_every_spelling(make, sink):
    m = make(sink.port, extra='relay_hosts = ( "10.0.0.0/8" )')
    with Client(m.port) as c:
        c.greet()
        for rcpt in ("v@elsewhere.test", "v%elsewhere.test@localhost", "elsewhere.test!v@mx.example.test", '"v@elsewhere.test"@x.test',
                     "v@[127.0.0.1]", "@example.com:v@elsewhere.test", "v@example.com.elsewhere.test", "v@xexample.com",
                     "v@elsewhere.test.", "v@EXAMPLE.COM.evil.test"):
            assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
            code, text = c.cmd("RCPT TO:<%s>" % rcpt)
            assert 500 <= code < 560, (rcpt, code, text)
            assert c.cmd("RSET")[0] == 250
        assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
        for rcpt in ("v@example.com", "v@EXAMPLE.com", "v@sub.example.com"):
            assert c.cmd("RCPT TO:<%s>" % rcpt)[0] == 250, rcpt


def test_four_xx_is_retried_and_five_xx_bounces(make):
    times = []

    def answer(stage, text, h):
        if stage == "rcpt" and text.startswith(b"no"):
            return b"550 5.1.1 nobody here\r\n"
        if stage == "rcpt" and text.startswith(b"wait"):
            times.append(time.monotonic())
            return b"451 4.2.0 not now\r\n" if len(times) == 1 else None
    s = Sink(answer)
    m = make(s.port, extra="retry_interval = 1")
    with Client(m.port) as c:
        c.greet()
        assert c.mail("s@source.test", ["no@example.com"], b"Subject: x\r\n\r\nbounce me\r\n")[0] == 250
        assert c.mail("s@source.test", ["wait@example.com"], b"Subject: y\r\n\r\nlater\r\n")[0] == 250
    mails = s.wait(2, 60)
    dsn = [x for x in mails if x.sender == ""][0]
    assert dsn.rcpts == ["s@source.test"]
    text = dsn.data.decode()
    assert "multipart/report" in text and "Final-Recipient: rfc822; no@example.com" in text.replace(";no", "; no")
    assert "550 5.1.1 nobody here" in text and "Action: failed" in text
    assert [x for x in mails if x.rcpts == ["wait@example.com"]] and len(times) == 2
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    ledger = m.json("ledger")
    assert (ledger["accepted"], ledger["generated"], ledger["delivered"], ledger["bounced"], ledger["difference"]) == \
        (2, 1, 2, 1, 0)
    assert [x for x in m.log("mainlog") if "@T@" in x and "451 4.2.0 not now" in x]
    assert [x for x in m.log("mainlog") if "@P@" in x and "550 5.1.1 nobody here" in x]
    s.close()


@pytest.mark.parametrize("tool", ["swaks", "curl", "msmtp"])
def test_clients_that_people_use(make, sink, tool, tmp_path):
    m = make(sink.port)
    data = b"From: <a@source.test>\r\nTo: <b@example.com>\r\nSubject: " + tool.encode() + b"\r\n\r\nHello\r\n.dot\r\n"
    f = tmp_path / "mail"
    f.write_bytes(data)
    commands = {
        "swaks": ["swaks", "--server", "127.0.0.1:%d" % m.port, "-f", "a@source.test", "-t", "b@example.com", "-d", "@%s" % f],
        "curl": ["curl", "-sS", "smtp://127.0.0.1:%d" % m.port, "--mail-from", "a@source.test", "--mail-rcpt",
                 "b@example.com", "-T", str(f)],
        "msmtp": ["msmtp", "--host=127.0.0.1", "--port=%d" % m.port, "--from=a@source.test", "--tls=off", "--auth=off",
                  "b@example.com"],
    }
    r = subprocess.run(commands[tool], stdin=open(f), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert r.returncode == 0, r.stdout
    got = sink.wait(1)[0]
    assert got.rcpts == ["b@example.com"] and b"\r\nHello\r\n.dot\r\n" in got.data
