-- Inserting at the front of a long table is a loop in C.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_shift.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = {}
	for i = 1, 10000 do t[i] = i end
	while true do
		table.insert(t, 1, 1)
		table.remove(t, 1)
	end
end

msys.registerModule("site", mod)
