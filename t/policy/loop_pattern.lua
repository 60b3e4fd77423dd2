-- A pattern that backtracks without end.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_pattern.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("a"):rep(3000)
	return s:find(("a*"):rep(20) .. "b") and core.VALIDATE_CONT or core.VALIDATE_DONE
end

msys.registerModule("site", mod)
