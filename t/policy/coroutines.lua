-- The coroutine library works as in plain Lua.
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local co = coroutine.create(function(a, b)
		local c = coroutine.yield(a + b)
		local d, e = coroutine.yield(c * 2)
		return d, e
	end)
	assert(select(2, coroutine.resume(co, 1, 2)) == 3)
	assert(coroutine.status(co) == "suspended")
	assert(select(2, coroutine.resume(co, 10)) == 20)
	local ok, x, y = coroutine.resume(co, "x", "y")
	assert(ok and x == "x" and y == "y" and coroutine.status(co) == "dead")
	assert(select(2, coroutine.resume(co)) == "cannot resume dead coroutine")
	local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
	local sum = 0
	for v in gen do sum = sum + v end
	assert(sum == 6)
	local bad = coroutine.create(function() error("oops") end)
	local okb, err = coroutine.resume(bad)
	assert(not okb and err:find("oops"))
	assert(coroutine.close(coroutine.create(print)))
	local closed = false
	local c2 = coroutine.create(function()
		local x <close> = setmetatable({}, { __close = function() closed = true end })
		coroutine.yield()
	end)
	coroutine.resume(c2)
	assert(coroutine.close(c2) and closed)
	local okp, errp = pcall(coroutine.wrap(function() error({ 1 }) end))
	assert(not okp and errp[1] == 1)
	local through = coroutine.wrap(function() return pcall(function() return coroutine.yield(5) end) end)
	assert(through() == 5 and select(2, through(6)) == 6)
	assert(xpcall(function() return 1 end, print))
	local okx, msgx = xpcall(function(v) error(v, 0) end, function(m) return m .. "!" end, "hey")
	assert(not okx and msgx == "hey!")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
