-- A finalizer loops.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_gc.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	setmetatable({}, { __gc = function() while true do end end })
	collectgarbage()
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
