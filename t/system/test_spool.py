"""The spool from outside: restarts, a lost index, a full disk, messages that kill, the ledger."""
import os
import shutil
import subprocess
import time

import pytest
from lib.impetus import ROOT, wait_until
from lib.smtp import Client, Sink

DOWN = 'gateway = "127.0.0.1"\nremote_smtp_port = 1'


def fill(m, n, first=0, size=200, rcpt="r%d@example.com"):
    with Client(m.port, timeout=60) as c:
        c.greet()
        for i in range(first, first + n):
            code, text = c.mail("s%d@source.test" % i, [rcpt % i if "%" in rcpt else rcpt],
                                b"Subject: %d\r\n\r\n" % i + b"x" * 70 + b"\r\n" * (size // 72))
            assert code == 250, (i, code, text)


def senders(sink):
    return sorted(x.sender for x in sink.mails)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_queued_mail_survives_a_restart(make, sink, how):
    m = make(routing=DOWN, extra="retry_interval = 1")
    fill(m, 50)
    m.stop() if how == "stop" else m.kill_all()
    m.rewrite(routing='gateway = "127.0.0.1"\nremote_smtp_port = %d' % sink.port)
    m.start()
    sink.wait(50, 60)
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    assert senders(sink) == sorted("s%d@source.test" % i for i in range(50))
    assert m.json("ledger")["difference"] == 0


def test_the_index_is_lost_and_rebuilt(make, sink):
    m = make(routing=DOWN, extra="retry_interval = 1\nsegment_size = 1048576")
    fill(m, 100, size=20000)
    m.stop()
    shutil.rmtree(m.spool / "index")
    m.start()
    fill(m, 5, first=100)
    wait_until(lambda: m.json("ledger")["queued"] == 105, what="105 queued")
    ledger = m.json("ledger")
    assert ledger["carried"] + ledger["accepted"] == 105 and ledger["difference"] == 0, ledger
    m.stop()
    m.rewrite(routing='gateway = "127.0.0.1"\nremote_smtp_port = %d' % sink.port)
    m.start()
    sink.wait(105, 60)
    time.sleep(1)
    assert senders(sink) == sorted("s%d@source.test" % i for i in range(105))


def test_many_deliveries_then_no_index_then_nothing_comes_twice(make, sink):
    m = make(sink.port, extra="segment_size = 1048576")
    n = int(os.environ.get("IMPETUS_DELIVERIES", "20000"))
    pids = [subprocess.Popen(["/usr/bin/python3", "-c", SENDER, str(m.port), str(i), str(n // 4)]) for i in range(4)]
    assert [p.wait(120) for p in pids] == [0] * 4
    sink.wait(n // 4 * 4, 120)
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    m.stop()
    shutil.rmtree(m.spool / "index")
    m.start()
    wait_until(lambda: m.json("ledger")["difference"] == 0, what="a ledger")
    time.sleep(2)
    assert m.json("ledger")["queued"] == 0
    assert len(sink.mails) == n // 4 * 4


SENDER = """
import smtplib, sys
port, me, n = map(int, sys.argv[1:])
s = smtplib.SMTP("127.0.0.1", port, timeout=60)
for i in range(n):
    s.sendmail("s@source.test", ["r%d-%d@d%d.example.com" % (me, i, i % 5)], "Subject: x\\r\\n\\r\\n" + "body\\r\\n" * 300)
s.quit()
"""


def test_segments_go_when_their_mail_is_gone(make, sink):
    m = make(sink.port, extra="segment_size = 1048576")
    fill(m, 300, size=20000)
    sink.wait(300, 60)
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    wait_until(lambda: len(list((m.spool / "journal").glob("*.seg"))) <= 6, 30, what="unlinked segments")


def test_a_removed_row_shows_in_the_ledger(make, sink):
    m = make(routing=DOWN)
    fill(m, 10)
    assert m.json("ledger")["difference"] == 0
    m.stop()
    subprocess.run([str(m.build / "t/tools/drop_row"), str(m.spool / "index")], check=True)
    if ROOT:
        subprocess.run(["chown", "-R", "nobody", str(m.spool / "index")], check=True)
    m.start()
    wait_until(lambda: m.json("ledger")["difference"] == 1, what="a difference of 1")


def test_a_full_disk_refuses_before_data_and_recovers(make, sink):
    m = make(sink.port, extra="spool_free_min = 1000000000000")
    with Client(m.port) as c:
        c.greet()
        code, text = c.cmd("MAIL FROM:<s@source.test>")
        assert code == 452, (code, text)
    m.rewrite(extra="workers = 2\nspool_free_min = 1000000")
    m.reload()

    def taken():
        with Client(m.port) as c:
            c.greet()
            return c.mail("s@source.test", ["r@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    wait_until(taken, what="mail is taken again")


@pytest.mark.parametrize("point", ["journal.write=ENOSPC", "journal.sync=EIO", "journal.sync=EIO@3", "segment.create=ENOSPC@3",
                                   "body.write=ENOSPC"])
def test_a_failing_disk_is_answered_and_nothing_is_lost(make, sink, point):
    m = make(sink.port, env=dict(IMPETUS_FAULT=point), extra="retry_interval = 1\nsegment_size = 1048576", expect_panic=True)
    good = []
    for i in range(60):
        try:
            with Client(m.port, timeout=30) as c:
                c.greet()
                size = 400000 if i % 10 == 0 else 2000
                code, text = c.mail("s%d@source.test" % i, ["r@example.com"], b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * (size // 72))
                assert code in (250, 451, 452, 421, 0), (code, text)
                if code == 250:
                    good.append("s%d@source.test" % i)
        except OSError:
            pass
    assert len(good) >= 40, len(good)
    wait_until(lambda: set(good) <= {x.sender for x in sink.mails}, 60, what="all that were answered 250")
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    assert m.json("ledger")["difference"] == 0


def send_hard(m, numbers, rcpt):
    """Each message until it is answered 250: workers die under us."""
    todo = list(numbers)
    for _ in range(200):
        try:
            with Client(m.port, timeout=30) as c:
                c.greet()
                while todo:
                    data = b"Subject: %d\r\n\r\nx\r\n" % todo[0]
                    if c.mail("s%d@source.test" % todo[0], [rcpt], data)[0] != 250:
                        break
                    todo.pop(0)
            if not todo:
                return
        except (OSError, AssertionError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError("%d messages were never answered 250" % len(todo))


def test_messages_that_kill_go_to_quarantine(make, sink):
    """In a test build a worker aborts when it delivers a message with these words in its header."""
    many = int(os.environ.get("IMPETUS_DELIVERIES", "10000"))
    m = make(sink.port, env=dict(IMPETUS_CRASH_HEADER="Subject: 900000"), expect_panic=True, extra="retry_interval = 1")
    for i in range(10):
        send_hard(m, range(i * many // 10, (i + 1) * many // 10), "r@example.com")
        send_hard(m, [9000000 + i], "crash@d%d.example.com" % i)
    wait_until(lambda: len(m.json("quarantine", "list")["messages"]) == 10, 120, 0.3, what="ten in quarantine")
    wait_until(lambda: len({x.sender for x in sink.mails}) >= many, 90, what="the rest delivered")
    rows = m.json("quarantine", "list")["messages"]
    assert all(r["deaths"] >= 2 and r["recipient"].startswith("crash@") for r in rows)
    assert not [x for x in sink.mails if x.rcpts[0].startswith("crash@")]
    assert "Subject: 900000" in m.ctl("quarantine", "show", rows[1]["id"])
    m.ctl("quarantine", "drop", rows[0]["id"])
    wait_until(lambda: len(m.json("quarantine", "list")["messages"]) == 9, what="nine in quarantine")
    assert m.json("ledger")["difference"] == 0


def spoil(m, mark):
    """Makes the record of each queued message with these bytes in its header unreadable: one byte of them becomes another."""
    hits = 0
    for path in (m.spool / "journal").glob("*.seg"):
        with open(path, "r+b") as f:
            at = f.read().find(mark)
            if at >= 0:
                f.seek(at)
                f.write(bytes([mark[0] ^ 1]))
                hits += 1
    return hits


def test_a_message_that_cannot_be_read_can_be_dropped(make, sink):
    """The operator wants to be rid of it: that it cannot be read is no reason to set it aside once more."""
    m = make(routing=DOWN, extra="retry_interval = 1")
    fill(m, 1, first=7700)
    fill(m, 1, first=1)
    wait_until(lambda: m.json("ledger")["queued"] == 2, what="two queued")
    assert spoil(m, b"Subject: 7700") == 1
    rows = wait_until(lambda: m.json("quarantine", "list")["messages"], what="one in quarantine")
    assert "damaged" in m.ctl("quarantine", "show", rows[0]["id"])
    m.ctl("quarantine", "drop", rows[0]["id"])
    ledger = wait_until(lambda: (lambda l: l["queued"] == 1 and l)(m.json("ledger")), what="one queued")
    assert ledger["discarded"] == 1 and ledger["difference"] == 0, ledger
    assert m.json("quarantine", "list")["messages"] == []
    assert any(rows[0]["id"] in line and "554" in line for line in m.log("mainlog"))


def test_blackhole_and_expiry(make, sink):
    m = make(routing=DOWN, extra='message_expiration = 3\nretry_interval = 1\nDomain "hole.example.com" { blackhole = internal }')
    fill(m, 1, rcpt="r@hole.example.com")
    fill(m, 1)
    wait_until(lambda: m.json("ledger")["expired"] >= 1, 60, 0.2, what="an expired message")
    ledger = m.json("ledger")
    assert ledger["difference"] == 0
    assert [x for x in m.log("mainlog") if "exceeded max time without delivery" in x]
    assert [x for x in m.log("mainlog") if "Blackholed" in x]


def test_lost_after_the_dot_is_in_doubt(make):
    hits = []

    def answer(stage, text, h):
        if stage == "dot" and not hits:
            hits.append(1)
            return "drop"
    s = Sink(answer)
    m = make(s.port, extra="in_doubt = hold\nretry_interval = 1")
    fill(m, 1)
    wait_until(lambda: m.json("indoubt", "list")["attempts"], what="a doubt")
    row = m.json("indoubt", "list")["attempts"][0]
    wait_until(lambda: m.json("indoubt", "list")["attempts"][0]["state"] == "held", what="held")
    assert row["recipient"] == "r0@example.com" and len(s.mails) == 1
    m.ctl("indoubt", "done", row["id"])
    wait_until(lambda: m.json("ledger")["queued"] == 0, what="an empty queue")
    assert m.json("ledger")["delivered"] == 1 and len(s.mails) == 1
    s.close()
