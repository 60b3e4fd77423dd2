-- Closing functions that close coroutines that have closing functions ...: the C stack is bounded.
--! steps 10000000
--! memory 67108864
--! data cont
--! log too many coroutines closed inside one another
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local deepest = 0
	local function deep(n)
		deepest = n
		local co = coroutine.create(function()
			local x <close> = setmetatable({}, { __close = function() deep(n + 1) end })
			coroutine.yield()
		end)
		coroutine.resume(co)
		local ok, err = pcall(coroutine.close, co)
		if not ok then
			print(err)
		end
	end
	deep(1)
	assert(deepest > 5 and deepest < 50)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
