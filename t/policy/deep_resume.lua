-- Coroutines in coroutines: an ordinary error at some depth, not a crash.
--! steps 10000000
--! memory 67108864
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local depth = 0
	local function deep()
		depth = depth + 1
		return coroutine.wrap(deep)()
	end
	local ok, err = pcall(deep)
	assert(not ok and depth > 20)
	local function handler(m) error(m) end
	assert(not xpcall(error, handler))
	local s = ("("):rep(300) .. ")"
	assert(not pcall(string.find, s, ("("):rep(300)))
	assert(not pcall(load, ("("):rep(100000)) or true)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
