-- The dictionaries: get, set, exists, delete, and that one recipient's do not leak.
--! data cont
--! data_spool_each_rcpt cont
--! conn late=2,
--! mess mine=1,
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	assert(vctx:get(core.VCTX_CONN, "none") == "" and vctx:exists(core.VCTX_CONN, "none") == 0)
	local there, value = vctx:exists_and_get(core.VCTX_MESS, "none")
	assert(there == 0 and value == nil)
	vctx:set(core.VCTX_MESS, "n", 5)
	vctx:set(core.VCTX_MESS, "b", true)
	assert(vctx:get(core.VCTX_MESS, "n") == "5" and vctx:get(core.VCTX_MESS, "b") == "true")
	there, value = vctx:exists_and_get(core.VCTX_MESS, "n")
	assert(there == 1 and value == "5")
	assert(vctx:delete(core.VCTX_MESS, "n") == 1 and vctx:delete(core.VCTX_MESS, "n") == 0)
	vctx:set(core.VCTX_MESS, "b", nil)
	assert(vctx:exists(core.VCTX_MESS, "b") == 0)
	msg:context_set(core.ECMESS_CTX_MESS, "shared", "yes")
	assert(vctx:get(core.VCTX_MESS, "shared") == "yes")
	assert(core.ec_message_context_get(msg, core.ECMESS_CTX_MESS, "shared") == "yes")
	assert(not pcall(vctx.set, vctx, core.VCTX_MESS, ("k"):rep(600000), ("v"):rep(600000)))
	assert(not pcall(vctx.set, vctx, core.VCTX_MESS, "k", {}))
	return core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
	assert(msg:context_get(core.ECMESS_CTX_MESS, "shared") == "yes")
	vctx:set(core.VCTX_MESS, "mine", 1)
	vctx:set(core.VCTX_CONN, "late", 2)
	assert(msg:context_get(core.ECMESS_CTX_MESS, "mine") == "1")
	assert(msg:context_exists(core.ECMESS_CTX_CONN, "late") == 1)
	assert(msg:context_delete(core.ECMESS_CTX_MESS, "shared") == 1)
	assert(msys.expandMacro("%{vctx_mess:mine}-%{vctx_conn:late}-%{mine}-%{i}-100%-%{none}") == "1-2-1-192.0.2.7-100%-")
	assert(not pcall(msys.expandMacro, "%{rfc2822:headers}"))
	local l, dom = core.string_new(), core.string_new()
	msg:get_envelope2(core.EC_MSG_ENV_TO, l, dom)
	assert(tostring(l) == "to" and dom.buffer == "example.com" and #dom == 11 and l .. "@" .. dom == "to@example.com")
	msg:get_envelope2(core.EC_MSG_ENV_FROM | core.EC_MSG_ENV_COMPLETE, l)
	assert(tostring(l) == "from@sender.example" and l:match("^%a+") == "from" and l:upper():sub(1, 4) == "FROM")
	l:set("x")
	l:write("yz", 1)
	assert(tostring(l) == "xy")
	assert(msg:reception_peer() == "192.0.2.7:4321" and msg:reception_peer("ip") == "192.0.2.7" and
		msg:reception_peer("port") == "4321" and msg:listener_addr("ip") == "")
	assert(tostring(msg.recv_from) == "192.0.2.7:4321" and msg.recv_method == core.P_ESMTP)
	assert(msys.type(msg) == "msys.core:_ec_message" and msys.type(1) == "number")
	assert(getmetatable(msg) == "msys object" and not pcall(setmetatable, msg, {}))
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
