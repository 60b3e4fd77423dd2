-- A module on all nine phases: parameters, contexts kept from phase to phase, a header added for one recipient.
--! connect cont
--! capability X-IMPETUS
--! ehlo 250 healthy client.example
--! mailfrom cont
--! rcptto cont
--! data cont
--! data_spool cont
--! data_spool_each_rcpt cont
--! set_binding cont
--! final_validation cont
--! conn peer=192.0.2.7:4321,
--! mess phases=mailfrom;rcptto;data;data_spool;data_spool_each_rcpt;set_binding;final_validation,
--! header X-Policy: seen by 192.0.2.7:4321
--! header Received: from x by y
--! binding out1
--! log scriptlet: hello from connect 3 7
--! nolog CALLOUT
local core = require("msys.core")
require("msys.extended.message")
local mod = {}

local function note(ctx_get, ctx_set, name)
	local sofar = ctx_get()
	ctx_set(sofar == "" and name or sofar .. ";" .. name)
end

local function vnote(vctx, name)
	note(function() return vctx:get(core.VCTX_MESS, "phases") end,
		function(v) vctx:set(core.VCTX_MESS, "phases", v) end, name)
end

function mod:validate_connect(ac, vctx)
	assert(ac.protocol == core.P_ESMTP)
	assert(tostring(ac.conn_id) == "00/00-00000-00001234")
	vctx:set(core.VCTX_CONN, "peer", tostring(ac.remote_addr))
	ac:esmtp_capability_add("X-IMPETUS")
	print("hello from connect", ac:inbound_session_count(), ac:inbound_session_count("/24"))
	self.seen = 1
	return core.VALIDATE_CONT
end

function mod:validate_ehlo(str, ac, vctx)
	assert(tostring(str) == "client.example" and #str == 14)
	self.seen = (self.seen or 1) + 1
	return core.VALIDATE_CONT
end

function mod:validate_mailfrom(str, ac, vctx)
	assert(self.seen == 2)
	local msg = core.accept_construct_get_message_construct(ac).message
	assert(msg:mailfrom() == "from@sender.example")
	vnote(vctx, "mailfrom")
	return core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
	assert(msg:rcptto() == "to@example.com")
	vnote(vctx, "rcptto")
	return core.VALIDATE_CONT
end

function mod:validate_data(msg, ac, vctx)
	assert(msg:header("subject")[1] == "caf\u{e9} au lait")
	assert(#msg:header("x-none") == 0)
	assert(msg:body() == "Hello\r\nworld\r\n")
	assert(msg:context_get(core.ECMESS_CTX_CONN, "peer") == "192.0.2.7:4321")
	vnote(vctx, "data")
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	vnote(vctx, "data_spool")
	return core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
	assert(tostring(msg.id) == "00/00-00000-00000003" and tostring(msg.batch_id) == "00/00-00000-00000002")
	msg:header("X-Policy", "seen by " .. msys.expandMacro("%{vctx_conn:peer}"))
	vnote(vctx, "data_spool_each_rcpt")
	return core.VALIDATE_CONT
end

function mod:validate_set_binding(msg)
	assert(self.seen == 2)
	assert(msg:binding() == nil and msg:binding("nosuch") == nil)
	assert(msg:binding("out1") == "out1")
	msg.priority = 1
	assert(msg.priority == 1)
	assert(msg:delay_until() == nil and msg:delay_until(2000000000.5) == 2000000000.5 and msg:delay_until() == 2000000000.5)
	msg:context_set(core.ECMESS_CTX_MESS, "phases", msg:context_get(core.VCTX_MESS, "phases") .. ";set_binding")
	return core.VALIDATE_DONE
end

function mod:core_final_validation(msg, ac, vctx)
	vnote(vctx, "final_validation")
end

msys.registerModule("site", mod)
