-- Garbage is no hoard: much is made, little is kept.
--! steps 10000000
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s
	for i = 1, 2000 do
		s = ("x"):rep(10000) .. i
	end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
