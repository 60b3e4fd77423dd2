"""With real peers: nsd answers for DNS, a Postfix sends to us, a Postfix takes from us."""
import collections

import pytest
from lib import corpus
from lib.impetus import wait_until
from lib.peers import Nsd, Postfix, SmtpSink, Tap, smtp_source, without_root
from lib.smtp import Client, Sink

pytestmark = pytest.mark.skipif(without_root(), reason="needs root and build/peers")

ZONES = {
    "example.com": """@ MX 10 mx1
@ MX 20 mx2
mx1 A 127.0.0.11
mx2 A 127.0.0.12
sub A 127.0.0.12
alias CNAME sub
null MX 0 .
loop1 CNAME loop2
loop2 CNAME loop1
nohost MX 10 nosuch
ourselves MX 10 mx.example.test.
nowhere A 0.0.0.0
""",
    "example.test": "mx A 127.0.0.1\n",
}
SCRIPT = """
require("msys.core")
local mod = {}
function mod:validate_mailfrom(str, ac, vctx)
  local rows, err = msys.dnsLookup("example.com", "mx")
  vctx:set(msys.core.VCTX_MESS, "mx", rows and tostring(#rows) or tostring(err))
  return msys.core.VALIDATE_CONT
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:header("X-MX", vctx:get(msys.core.VCTX_MESS, "mx"))
  return msys.core.VALIDATE_CONT
end
msys.registerModule("site", mod)
"""


@pytest.fixture
def nsd():
    n = Nsd(ZONES)
    yield n
    n.close()


def dns(nsd, tmp_path, port):
    f = tmp_path / "resolv.conf"
    f.write_text("nameserver [127.0.0.1]:%d\noptions timeout:2 attempts:2\n" % nsd.port)
    return 'resolv_conf = "%s"\nremote_smtp_port = %d\n' % (f, port)


def send(m, *rcpts):
    with Client(m.port) as c:
        c.greet()
        for r in rcpts:
            assert c.mail("s@source.test", [r], b"Subject: to %s\r\n\r\nx\r\n" % r.encode())[0] == 250


def test_mx_records_decide_where_mail_goes(make, nsd, tmp_path):
    one = Sink(host="127.0.0.11")
    two = Sink(host="127.0.0.12", port=one.port)
    m = make(routing=dns(nsd, tmp_path, one.port), script=SCRIPT)
    send(m, "r@example.com", "r@sub.example.com", "r@alias.example.com")
    one.wait(1)
    two.wait(2)
    assert [x.rcpts for x in one.mails] == [["r@example.com"]] and b"X-MX: 2\r\n" in one.mails[0].data
    assert sorted(x.rcpts[0] for x in two.mails) == ["r@alias.example.com", "r@sub.example.com"]
    one.close()
    send(m, "second@example.com")
    two.wait(3, 60)
    two.close()


def test_domains_that_take_no_mail_bounce(make, nsd, tmp_path):
    s = Sink(host="127.0.0.11")
    m = make(routing=dns(nsd, tmp_path, s.port))
    with Client(m.port) as c:
        c.greet()
        for name in ("null", "nosuch", "nohost", "nowhere"):
            assert c.mail("s@example.com", ["r@%s.example.com" % name], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    s.wait(4, 60)
    text = " ".join(x.data.decode() for x in s.mails)
    assert all(x.sender == "" and x.rcpts == ["s@example.com"] for x in s.mails)
    assert "NULL MX domain does not accept mail" in text and "Domain Lookup Failed" in text
    s.close()


def test_a_next_hop_that_is_ourselves_is_a_loop(make, nsd, tmp_path):
    s = Sink(host="127.0.0.11")
    m = make(routing=dns(nsd, tmp_path, s.port), extra="")
    conf = m.conf.read_text().replace("remote_smtp_port = %d" % s.port, "remote_smtp_port = %d" % m.port)
    m.stop()
    m.conf.write_text(conf)
    m.start()
    with Client(m.port) as c:
        c.greet()
        assert c.mail("", ["r@ourselves.example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    wait_until(lambda: any("5.4.6" in x and "@P@" in x for x in m.log("mainlog")), what="the loop in the mainlog")
    assert len([x for x in m.log("mainlog") if "@R@" in x]) == 1
    s.close()


def test_between_two_postfixes_nothing_changes(make, tmp_path):
    """Upstream Postfix -> tap -> us -> (nsd's MX) -> Postfix -> recording sink, and -> smtp-sink for another domain."""
    sink, last = Sink(), SmtpSink()
    after = Postfix(sink.port)
    names = Nsd({"example.com": "@ MX 10 mx\nmx A 127.0.0.1\nsink MX 10 mx\n"})
    m = make(routing=dns(names, tmp_path, after.port),
             extra='max_outbound_connections = 10\nDomain "sink.example.com" { remote_smtp_port = %d }' % last.port)
    tap = Tap(m.port)
    before = Postfix(tap.port)
    try:
        messages = corpus.python_messages() + [d for d in corpus.generated("postfix", 200) if b"\0" not in d and plain(d)]
        with Client(before.port, timeout=60) as c:
            c.greet()
            for i, data in enumerate(messages):
                assert c.mail("s%d@source.test" % i, ["r%d@example.com" % i], data, " BODY=8BITMIME")[0] == 250, i
        assert smtp_source(before.port, 200) == 0
        with Client(before.port, timeout=60) as c:
            c.greet()
            for i, data in enumerate(messages):
                assert c.mail("t%d@source.test" % i, ["r%d@sink.example.com" % i], data, " BODY=8BITMIME")[0] == 250, i
        total = len(messages) + 200
        mails = sink.wait(total, 120)
        wait_until(lambda: len(last.messages()) >= len(messages), 60, 0.2, "mail in smtp-sink")
        assert len(mails) == total
        tapped = [(s, tuple(r), corpus.without_traces(d)) for s, r, d in tap.messages()]
        said = collections.Counter(x for x in tapped if not x[0].startswith("t"))
        other = collections.Counter((s, r, d.replace(b"\r\n", b"\n")) for s, r, d in tapped if s.startswith("t"))
        dumped = collections.Counter((s, tuple(r), corpus.without_traces(d)) for s, r, d in last.messages())
        assert dumped == other, (list((other - dumped))[:1], list((dumped - other))[:1])
        got = collections.Counter((x.sender, tuple(x.rcpts), corpus.without_traces(x.data)) for x in mails)
        assert not said - got and not got - said, (list((said - got))[:1], list((got - said))[:1])
    finally:
        before.close()
        after.close()
        last.close()
        names.close()
        tap.close()
        sink.close()


def plain(data):
    """Postfix itself folds lines above 998 and takes a lone CR or LF for a line's end."""
    lines = data.split(b"\r\n")
    return max(map(len, lines)) < 990 and not any(b"\n" in x or b"\r" in x for x in lines) and lines[0] != b""
