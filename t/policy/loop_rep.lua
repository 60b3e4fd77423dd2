-- rep of nothing, very often.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_rep.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		local s = (""):rep(math.maxinteger)
		local t = ("x"):rep(1000)
	end
end

msys.registerModule("site", mod)
