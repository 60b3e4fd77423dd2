-- tostring called by C code.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_tostring.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = setmetatable({}, { __tostring = function() while true do end end })
	print(t)
end

msys.registerModule("site", mod)
