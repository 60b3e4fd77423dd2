-- ... in pcall.
--! steps 100000000
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of memory (script_max_memory)
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local ok, err = pcall(string.rep, "x", 8 << 20)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
