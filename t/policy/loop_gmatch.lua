-- An iterator that finds nothing for long.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_gmatch.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("x"):rep(100000)
	for w in s:gmatch(".-.-.-y") do end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
