-- Lines without end for the paniclog.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_print.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		print("x")
	end
end

msys.registerModule("site", mod)
