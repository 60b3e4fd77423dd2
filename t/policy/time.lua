-- A loop that is within its instructions but not within its time.
--! steps 1000000000000
--! tick 10000
--! data 421
--! log out of time (script_max_time)
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	for i = 1, 1e9 do end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
