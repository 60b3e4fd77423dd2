-- A to-be-closed variable loops when the callout is ended.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_close.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local x <close> = setmetatable({}, { __close = function() while true do end end })
	while true do end
end

msys.registerModule("site", mod)
