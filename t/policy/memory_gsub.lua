-- gsub that makes far more than it got.
--! steps 100000000
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of memory (script_max_memory)
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("x"):rep(10000)
	local r = s:gsub("x", s)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
