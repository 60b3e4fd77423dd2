-- The message handler loops after an ordinary error, when hooks are on.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_handler_error.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	xpcall(function() error("x") end, function(m) while true do end end)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
