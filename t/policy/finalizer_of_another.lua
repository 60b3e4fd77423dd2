-- A finalizer that loops runs on the house's budget when the callout that made the object is over: it is ended and logged,
-- and no session is refused for it.
--! data cont
--! session new
--! data_spool cont
--! log __gc function between callouts: out of instructions
--! nolog CALLOUT error in
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	self.x = setmetatable({}, { __gc = function() while true do end end })
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	collectgarbage()
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
