-- Objects that a script kept are dead when their session or message is.
--! data cont
--! session new
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}
local old

function mod:validate_data(msg, ac, vctx)
	if old == nil then
		old = { msg = msg, ac = ac, vctx = vctx, this = self }
		return core.VALIDATE_CONT
	end
	assert(old.this ~= self and old.msg ~= msg)
	for _, f in ipairs({ function() return old.msg:mailfrom() end, function() return old.msg.id end,
		function() return old.ac.conn_id end, function() return old.vctx:get(core.VCTX_CONN, "x") end,
		function() return old.vctx.code end }) do
		local ok, err = pcall(f)
		assert(not ok and err:find("cannot be kept for later"), err)
	end
	assert(not pcall(vctx.get, msg, core.VCTX_CONN, "x"))
	assert(not pcall(msg.mailfrom, vctx) and not pcall(msg.mailfrom) and not pcall(msg.mailfrom, "x"))
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
