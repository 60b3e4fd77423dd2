-- In a coroutine of the script.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_wrap.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local f = coroutine.wrap(function() while true do end end)
	f()
end

msys.registerModule("site", mod)
