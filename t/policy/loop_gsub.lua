-- The replacement function of gsub loops.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_gsub.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	("abc"):gsub(".", function() while true do end end)
end

msys.registerModule("site", mod)
