-- The answer never comes: the time of the callout is over, waits included.
--! data late
--! log out of time
--! log in function
--! data late
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	pcall(msys.dnsLookup, "slow.example")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
