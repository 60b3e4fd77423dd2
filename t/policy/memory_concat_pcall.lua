-- A string that grows a little at a time, in pcall.
--! steps 100000000
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of memory (script_max_memory)
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("x"):rep(1 << 20)
	for i = 1, 20 do
		pcall(function() s = s .. ("y"):rep(1 << 19) end)
	end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
