-- expandMacro is charged by the bytes that it looks at and that it makes.
--! steps 4000000
--! memory 67108864
--! connect cont
--! nolog CALLOUT
--! mailfrom 421
--! log out of instructions
--! data cont
local core = require("msys.core")
local mod = {}
local rounds = 0

-- Beginnings without an end are looked through once.
function mod:validate_connect(ac, vctx)
	local text = ("%{"):rep(400000)
	assert(msys.expandMacro(text) == text)
	text = text:sub(1, 3000) .. "}"
	assert(msys.expandMacro(text .. "%{" .. text .. "%{") == "%{")
	return core.VALIDATE_CONT
end

-- Short macros that stand for much.
function mod:validate_mailfrom(str, ac, vctx)
	vctx:set(core.VCTX_MESS, "x", ("x"):rep(10000))
	while true do
		msys.expandMacro(("%{x}"):rep(10))
		rounds = rounds + 1
	end
end

function mod:validate_data(msg, ac, vctx)
	assert(rounds > 10 and rounds <= 40, rounds)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
