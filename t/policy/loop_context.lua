-- Values without end for the context.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_context.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local i = 0
	while true do
		i = i + 1
		pcall(vctx.set, vctx, core.VCTX_MESS, "k" .. i % 2000, ("v"):rep(2000))
	end
end

msys.registerModule("site", mod)
