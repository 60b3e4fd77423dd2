-- The message handler of xpcall loops, and is called for the overrun itself too.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_handler.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	xpcall(function() while true do end end, function(m) while true do end end)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
