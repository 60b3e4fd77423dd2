-- A comparator without order, and a C function as one.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_sort_lies.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = {}
	for i = 1, 20000 do t[i] = i % 7 end
	while true do
		pcall(table.sort, t, function(a, b) return true end)
		pcall(table.sort, t, math.ult)
	end
end

msys.registerModule("site", mod)
