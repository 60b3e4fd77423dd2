"""Scripts in the running daemon: what they may do, and what becomes of those that loop, raise or hoard."""
import time

import pytest
from lib.impetus import wait_until
from lib.smtp import Client

HEAD = 'require("msys.core")\nrequire("msys.extended.message")\nrequire("msys.extended.vctx")\nlocal mod = {}\n'
TAIL = '\nmsys.registerModule("site", mod)\n'


def policy(body):
    return HEAD + body + TAIL


MANY = policy("""
function mod:validate_connect(ac, vctx) vctx:set(msys.core.VCTX_CONN, "seen", "connect") return msys.core.VALIDATE_CONT end
function mod:validate_rcptto(msg, str, ac, vctx)
  local lp = vctx:get(msys.core.VCTX_MESS, "rcptto_localpart")
  if lp == "no" then vctx:set_code(550, "5.7.1 not you") return msys.core.VALIDATE_DONE end
  if lp == "later" then vctx:set_code(451, "4.7.1 later") return msys.core.VALIDATE_DONE end
  if lp == "bye" then vctx:disconnect(421, "4.7.0 bye") return msys.core.VALIDATE_DONE end
  return msys.core.VALIDATE_CONT
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  local lp = vctx:get(msys.core.VCTX_MESS, "rcptto_localpart")
  if lp == "drop" then msg:discard("550 5.7.1 not wanted") end
  if lp == "half" then vctx:set_code(550, "5.7.1 half") return msys.core.VALIDATE_DONE end
  if lp == "moved" then msg:rcptto("elsewhere@example.com") end
  msg:header("X-Seen", vctx:get(msys.core.VCTX_CONN, "seen") .. " " .. lp)
  return msys.core.VALIDATE_CONT
end
function mod:validate_set_binding(msg) msg:binding("out1") return msys.core.VALIDATE_CONT end
""")


def test_what_scripts_decide(make, sink):
    m = make(sink.port, script=MANY, extra='Binding "out1" { bind_address = "127.0.0.1" }')
    with Client(m.port) as c:
        c.greet()
        assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
        assert c.cmd("RCPT TO:<no@example.com>") == (550, "5.7.1 not you")
        assert c.cmd("RCPT TO:<later@example.com>") == (451, "4.7.1 later")
        assert c.cmd("RSET")[0] == 250
        assert c.mail("s@source.test", ["drop@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
        assert c.mail("s@source.test", ["a@example.com", "moved@example.com", "half@example.com"],
                      b"Subject: x\r\n\r\nx\r\n")[0] == 250
        assert c.mail("s@source.test", ["half@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 550
        assert c.cmd("MAIL FROM:<s@source.test>")[0] == 250
        assert c.cmd("RCPT TO:<bye@example.com>") == (421, "4.7.0 bye")
        assert c.reply()[0] == 0
    mails = sink.wait(3, 30)
    time.sleep(0.3)
    by = {r: x for x in sink.mails for r in x.rcpts}
    assert sorted(by) == ["a@example.com", "elsewhere@example.com", "s@source.test"], sorted(by)
    assert b"X-Seen: connect a\r\n" in by["a@example.com"].data
    assert b"X-Seen: connect moved\r\n" in by["elsewhere@example.com"].data
    assert by["s@source.test"].sender == "" and b"half@example.com" in by["s@source.test"].data
    assert len(mails) >= 3
    wait_until(lambda: len([x for x in m.log("rejectlog") if "M=scriptlet" in x]) >= 5, what="lines in the rejectlog")
    assert any("@out1" in x for x in m.log("mainlog") if "@R@" in x)


BAD = {
    "loop": "while true do end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "xpcall(function() while true do end end, function() while true do end end)",
    "pattern": 'string.find(("a"):rep(40), ("a*"):rep(30) .. "b")',
    "gc": "setmetatable({}, { __gc = function() while true do end end }) collectgarbage()",
    "coroutine": "coroutine.wrap(function() while true do pcall(error) end end)()",
    "sort": "local t = {} for i = 1, 50 do t[i] = i end table.sort(t, function() while true do end end)",
    "memory": 'local t = {} while true do t[#t + 1] = ("x"):rep(100000) end',
    "rep": 'local s = ("x"):rep(1 << 40)',
    "concat": 'local s = "x" while true do s = s .. s end',
    "raise": 'error("on purpose")',
    "nil": "return nil",
    "global": "local x = nosuch.field",
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_script_harms_only_its_session(make, sink, kind):
    script = policy("""
function mod:validate_mailfrom(str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "mailfrom_localpart") == "bad" then
    %s
    %s
  end
  return msys.core.VALIDATE_CONT
end
""" % (BAD[kind] if kind != "nil" else "do return nil end", ""))
    m = make(sink.port, script=script, workers=1,
             extra="script_max_instructions = 2000000\nscript_max_memory = 16777216\nwatchdog_interval = 20")
    worker = m.children("worker")
    with Client(m.port) as good, Client(m.port, timeout=30) as bad:
        good.greet()
        bad.greet()
        code, text = bad.cmd("MAIL FROM:<bad@source.test>")
        assert code == 421 and "temporary issue, please retry your message later" in text, (code, text)
        assert good.mail("good@source.test", ["r@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    sink.wait(1)
    assert m.children("worker") == worker, "the worker died"
    wait_until(lambda: [x for x in m.log("paniclog") if "scriptlet" in x and "site.lua:" in x or "site:" in x],
               what="script and line in the paniclog")
    assert [x for x in m.log("rejectlog") if "E=421 M=scriptlet" in x]


def test_a_script_error_at_load_refuses_to_start(make, sink):
    m = make(sink.port, script="local x = = 1\n", start=False, expect_panic=True)
    m.start(wait=False)
    assert m.proc.wait(20) == 1
    assert "site.lua:1" in m.stderr()


def test_a_reload_with_a_broken_script_changes_nothing(make, sink):
    m = make(sink.port, script=MANY, extra='Binding "out1" { bind_address = "127.0.0.1" }')
    before = m.children("worker")
    (m.dir / "site.lua").write_text("local x = = 1\n")
    r = m.reload(check=False)
    wait_until(lambda: any("site.lua:1" in x for x in m.log("paniclog")), what="the error in the paniclog")
    assert m.children("worker") == before, r
    with Client(m.port) as c:
        c.greet()
