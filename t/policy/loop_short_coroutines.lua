-- Coroutines too short for a hook of theirs, in one another: each is charged when it is resumed.
--! memory 67108864
--! connect 421
--! log CALLOUT error in site:validate_connect (phase connect
--! log out of instructions
--! data cont
local core = require("msys.core")
local mod = {}
local begun = 0

function mod:validate_connect(ac, vctx)
	local function f(n)
		begun = begun + 1
		if n == 0 then return end
		coroutine.wrap(function() pcall(f, n - 1) pcall(f, n - 1) end)()
	end
	f(14)
end

function mod:validate_data(msg, ac, vctx)
	assert(begun < 20000, begun)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
