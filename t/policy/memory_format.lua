-- format and table.concat are charged for what they make.
--! steps 100000000
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of memory (script_max_memory)
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s, t = ("x"):rep(100000), {}
	for i = 1, 100 do t[i] = s end
	return #table.concat(t) + #string.format("%s%s", s, s)
end

msys.registerModule("site", mod)
