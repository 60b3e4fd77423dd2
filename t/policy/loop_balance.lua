-- %b over a long text, from every place.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_balance.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("("):rep(100000)
	s:find("%b()")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
