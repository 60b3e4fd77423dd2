-- Two coroutines that throw the ball to each other.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_yield.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local f = coroutine.wrap(function() while true do coroutine.yield() end end)
	while true do f() end
end

msys.registerModule("site", mod)
