"""The console: every verb on a queue that is known."""
import json

import pytest
from lib.impetus import wait_until
from lib.smtp import Client

DOWN = 'gateway = "127.0.0.1"\nremote_smtp_port = 1'


@pytest.fixture
def queue(make):
    """Three messages to example.com, one to sub.example.com, none of which can be delivered."""
    m = make(routing=DOWN, extra='Binding "out1" { bind_address = "127.0.0.1" }')
    ids = []
    with Client(m.port) as c:
        c.greet()
        for rcpt in ("a@example.com", "b@example.com", "c@example.com", "d@sub.example.com"):
            code, text = c.mail("s@source.test", [rcpt], b"Subject: to %s\r\n\r\nthe body\r\n" % rcpt.encode())
            assert code == 250
            ids.append(text.split()[-1])
    wait_until(lambda: sum(q["delayed"] for q in m.json("mailq")["queues"]) == 4, what="four delayed")
    return m, ids


def test_mailq_and_its_filters(queue):
    m, _ = queue
    rows = m.json("mailq")["queues"]
    assert [(q["domain"], q["delayed"], q["binding_group"], q["binding"]) for q in rows] == \
        [("example.com", 3, "default", "default"), ("sub.example.com", 1, "default", "default")]
    assert len(m.json("mailq", "-l", "1")["queues"]) == 1
    assert [q["domain"] for q in m.json("mailq", "-d", "SUB.example.com")["queues"]] == ["sub.example.com"]
    assert m.json("mailq", "-b", "out1")["queues"] == []
    text = m.ctl("mailq")
    assert "example.com" in text and "delayed" in text


def test_domain_active_delayed_binding(queue):
    m, _ = queue
    d = m.json("domain", "example.com")
    assert d["queues"][0]["delayed"] == 3
    assert isinstance(d["workers"], list) and d["workers"] and not [x for x in d["workers"] if "\n" in x]
    assert [x for x in d["workers"] if x.startswith("binding default: ")], d["workers"]
    assert [x for x in d["workers"] if "127.0.0.1:1" in x], d["workers"]
    text = m.ctl("domain", "example.com").splitlines()
    assert [x for x in text if x.startswith("workers  ")] and not [x for x in text if "?" in x], text
    assert [(r["domain"], r["delayed"]) for r in m.json("delayed", "0")["domains"]] == [("example.com", 3), ("sub.example.com", 1)]
    assert m.json("delayed", "1")["total_delayed"] == 4 and m.json("active", "0")["total_active"] == 0
    rows = {b["binding"]: b for b in m.json("binding", "summary")["bindings"]}
    assert rows["default"]["queued"] == 4 and rows["out1"]["queued"] == 0


def test_message_details_retry_fail(queue):
    m, ids = queue
    d = m.json("message", "details", ids[0])
    assert (d["id"], d["recipient"], d["sender"], d["state"], d["batch"] != "") == \
        (ids[0], "a@example.com", "s@source.test", "queued", True)
    full = m.ctl("message", "details", "full", ids[0])
    assert "the body" in full and "Subject: to a@example.com" in full and "Received:" in full
    tries = d["tries"]
    m.ctl("message", "retry", ids[0])
    wait_until(lambda: m.json("message", "details", ids[0])["tries"] > tries, what="one try more")
    m.ctl("message", "fail", "quiet", ids[1])
    wait_until(lambda: m.json("ledger")["discarded"] == 1, what="a failed message")
    assert "is not queued" in ctl_refused(m, "message", "details", ids[1])
    m.ctl("message", "fail", ids[2])
    wait_until(lambda: m.json("ledger")["generated"] == 1, what="a notice")
    assert m.json("ledger")["difference"] == 0


def test_fail_domain(queue):
    m, _ = queue
    m.ctl("fail", "domain", "quiet", "example.com")
    wait_until(lambda: m.json("ledger")["discarded"] == 3, what="three failed")
    assert [q["domain"] for q in m.json("mailq")["queues"]] == ["sub.example.com"]


def test_a_suspended_binding_stays_suspended(make, sink):
    m = make(sink.port)
    m.ctl("binding", "suspend", "default")
    with Client(m.port) as c:
        c.greet()
        assert c.mail("s@source.test", ["r@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    m.stop()
    m.start()
    row = [b for b in m.json("binding", "summary")["bindings"] if b["binding"] == "default"][0]
    assert row["delivery"] == "suspended" and row["queued"] == 1 and not sink.mails
    m.ctl("binding", "resume", "default")
    sink.wait(1)


def test_words_that_are_off(queue):
    m, _ = queue
    for words, want in ((["nosuch"], "unknown command"), (["message", "details", "xx"], "no message id"),
                        (["message", "details", "00/00-00000-00000001"], "is not queued"), (["mailq", "-l"], "lacks its value"),
                        (["active"], "usage: active"), (["binding", "suspend", "nosuch"], "there is no binding")):
        assert want in ctl_refused(m, *words), words


def ctl_refused(m, *words):
    import subprocess
    r = subprocess.run([str(m.build / "impetusctl"), "-s", str(m.control), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=30)
    assert r.returncode == 1, (words, r)
    return r.stderr


def test_one_session_takes_many_commands(queue):
    m, _ = queue
    out = m.ctl(stdin="version\nhelp mailq\nledger\n")
    assert "version" in out and "LIMIT" in out and "accepted" in out


def test_every_read_has_json(queue):
    m, ids = queue
    for words in (["version"], ["summary"], ["mailq"], ["domain", "example.com"], ["active", "0"], ["delayed", "0"],
                  ["message", "details", ids[0]], ["message", "details", "full", ids[0]], ["binding", "summary"], ["ledger"],
                  ["indoubt", "list"], ["quarantine", "list"], ["quarantine", "show", ids[0]], ["help"]):
        assert isinstance(json.loads(m.ctl("--json", *words)), dict), words


def test_reload_and_reopen_and_shutdown(make, sink):
    m = make(sink.port)
    m.ctl("reopen", "logs")
    m.reload()
    m.ctl("shutdown")
    assert m.proc.wait(30) == 0
    m.proc = None


def test_retries_by_hand_use_nothing_up(make):
    """Its schedule had room for two retries: a third by hand once ended a message with most of its time left."""
    from lib.smtp import Sink
    later = Sink(lambda stage, text, session: b"451 4.7.1 later\r\n" if stage == "rcpt" else None)
    try:
        m = make(later.port, extra="message_expiration = 3600\nretry_interval = 1200")
        with Client(m.port) as c:
            c.greet()
            ident = c.mail("s@source.test", ["a@example.com"], b"Subject: x\r\n\r\nx\r\n")[1].split()[-1]
        for tries in range(1, 6):
            wait_until(lambda: [d for d in [m.json("message", "details", ident)] if d["tries"] >= tries and d["state"] == "queued"],
                       what="try %d" % tries)
            m.ctl("message", "retry", ident)
        assert m.json("ledger")["expired"] == 0
    finally:
        later.close()


def test_the_summary_counts(make, sink):
    """Cells that nobody wrote once said 0 for ever."""
    m = make(sink.port, script="""
        require("msys.core")
        require("msys.extended.vctx")
        local mod = {}
        function mod:validate_mailfrom(str, ac, vctx)
          if vctx:get(msys.core.VCTX_MESS, "mailfrom_localpart") == "bad" then error("bad") end
          return msys.core.VALIDATE_CONT
        end
        msys.registerModule("site", mod)""")
    with Client(m.port) as c:
        c.greet()
        for n in range(20):     # some of them to a queue of the other worker
            assert c.mail("s@source.test", ["a@d%d.example.com" % n], b"Subject: x\r\n\r\nx\r\n")[0] == 250
        assert c.cmd("MAIL FROM:<bad@source.test>")[0] == 421
    sink.wait(20)

    def counted():
        s = m.json("summary")
        return all(s[name] > 0 for name in ("policy_runs", "script_errors", "log_lines", "lua_bytes", "hints_sent")) and s
    wait_until(counted, what="what was counted: %s" % m.json("summary"))
