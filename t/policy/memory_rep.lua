-- One string over the budget.
--! data 421
--! log out of
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("x"):rep(1 << 30)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
