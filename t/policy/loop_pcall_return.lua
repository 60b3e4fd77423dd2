-- A caught overrun must not end in a result either.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_pcall_return.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	pcall(function() while true do end end)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
