-- Callouts that each stay within their budget, but keep what they made in a global: the state has a ceiling, is
-- thrown away when it is reached, and goes on empty.
--! ceiling 6000000
--! memory 3000000
--! data cont
--! data cont
--! data 421
--! log the scripts of this worker have used up their memory
--! data cont
--! log they are loaded anew
--! data cont
hoard = {}
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	for i = 1, 200 do
		hoard[#hoard + 1] = ("x"):rep(10000) .. #hoard
	end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
