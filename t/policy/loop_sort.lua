-- The comparator of table.sort loops.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_sort.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	table.sort({ 3, 2, 1 }, function(a, b) while true do end end)
end

msys.registerModule("site", mod)
