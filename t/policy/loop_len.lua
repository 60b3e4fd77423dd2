-- C functions that walk as far as __len says.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_len.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = setmetatable({}, { __len = function() return math.maxinteger end, __index = function() return "" end })
	while true do
		pcall(table.concat, t)
		pcall(table.unpack, t)
		pcall(table.insert, t, 1, 1)
		pcall(table.remove, t, 1)
		pcall(table.move, t, 1, math.maxinteger - 1, 1, {})
		pcall(table.sort, t)
	end
end

msys.registerModule("site", mod)
