-- What a phase does not allow is an error, caught or not; what it allows works.
--! set_binding 421
--! log msg:header(name, value) is not allowed in phase set_binding
--! session new
--! connect 421
--! log vctx:tarpit: no
--! mailfrom cont
--! rcptto cont
--! data_spool_each_rcpt cont
--! header X-Each: 1
local core = require("msys.core")
local mod = {}

local function refused(want, f, ...)
	local ok, err = pcall(f, ...)
	assert(not ok and err:find(want, 1, true), err)
end

function mod:validate_connect(ac, vctx)
	refused("0 to 3600", vctx.tarpit, vctx, 4000)
	refused("no reply code", vctx.set_code, vctx, 100, "x")
	refused("no reply code", vctx.set_code, vctx, "abc", "x")
	refused("needs a 4xx or 5xx", vctx.disconnect, vctx, 250, "x")
	refused("VCTX_CONN or VCTX_MESS expected", vctx.get, vctx, 3, "x")
	refused("no such block", ac.inbound_session_count, ac, "/24", "Nonsense")
	error("vctx:tarpit: no")
end

function mod:validate_mailfrom(str, ac, vctx)
	local msg = core.accept_construct_get_message_construct(ac).message
	refused("not allowed in phase mailfrom", msg.discard, msg)
	refused("not allowed in phase mailfrom", msg.body, msg)
	refused("not allowed in phase mailfrom", ac.esmtp_capability_add, ac, "X")
	return core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
	refused("not allowed in phase rcptto", msg.header, msg, "Subject")
	refused("not allowed in phase rcptto", msg.rcptto, msg, "a@b.example")
	refused("not a mail address", msg.mailfrom, msg, "a b@c")
	refused("not built yet", msg.mime, msg)
	refused("not built yet", vctx.recipient_list, vctx)
	refused("msys.sleep is not built yet", msys.sleep, 1)
	refused("msys.pcre is not built yet", function() return msys.pcre.match("a", "b") end)
	refused("msys.core.io_wrapper_open is not built yet", core.io_wrapper_open, "x")
	refused("msys.pcre is not built yet", require, "msys.pcre")
	assert(msys.nonsense == nil and core.NONSENSE == nil)
	assert(msg:mailfrom("other@sender.example") == "other@sender.example")
	self.shared = msg
	return core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
	refused("not allowed in phase data_spool_each_rcpt", msg.binding, msg, "out1")
	refused("not allowed in phase data_spool_each_rcpt", msg.delay_until, msg, 1)
	refused("not a header name", msg.header, msg, "Bad Name", "x")
	refused("not the message of the running callout", self.shared.header, self.shared, "X-Each", "1")
	assert(msg:rcptto("new@example.com") == "new@example.com")
	assert(self.shared:rcptto() == "to@example.com")
	assert(msg:routing_domain("Mail.Example.COM") == "mail.example.com")
	assert(msg:header("X-Each", "1"))
	return core.VALIDATE_CONT
end

function mod:validate_set_binding(msg)
	refused("not allowed in phase set_binding", msg.discard, msg)
	refused("not allowed in phase set_binding", msg.body, msg, "x")
	refused("0 or 1", function() msg.priority = 7 end)
	refused("cannot be assigned", function() msg.id = 7 end)
	refused("not a time", msg.delay_until, msg, -1)
	refused("not a time", msg.delay_until, msg, 1e300)
	refused("not a time", msg.delay_until, msg, 0/0)
	msg:header("X-No", "1")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
