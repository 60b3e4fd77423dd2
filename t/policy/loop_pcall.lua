-- The loop is inside pcall, which must not catch what ends it.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_pcall.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		pcall(function() while true do end end)
	end
end

msys.registerModule("site", mod)
