-- A loop without end.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_plain.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do end
end

msys.registerModule("site", mod)
