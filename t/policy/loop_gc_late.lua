-- A finalizer that is set after the metatable, collected by allocation alone; the callout itself ends well.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_gc_late.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local mt = { __gc = true }
	setmetatable({}, mt)
	mt.__gc = function() while true do end end
	local t
	for i = 1, 50000 do t = { i } end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
