-- Metamethods that loop.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_metamethod.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = setmetatable({}, { __index = function(t, k) while true do end end, __eq = error })
	return t.x
end

msys.registerModule("site", mod)
