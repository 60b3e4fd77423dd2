-- A finalizer that loops in pcall.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_gc_pcall.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	setmetatable({}, { __gc = function() while true do pcall(function() while true do end end) end end })
	pcall(collectgarbage)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
