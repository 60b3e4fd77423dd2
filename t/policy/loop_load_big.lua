-- A long text to compile.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_load_big.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = "local a = 1\n"
	while true do
		load(s:rep(20000))
	end
end

msys.registerModule("site", mod)
