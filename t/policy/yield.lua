-- A callout that yields by itself, and one that meddles with coroutines that are not its own.
--! data 421
--! log attempt to yield from outside a coroutine
--! data_spool cont
--! rcptto cancel
--! mailfrom cont
--! nolog panic
local core = require("msys.core")
local mod = {}
local mine, waiting

function mod:validate_data(msg, ac, vctx)
	coroutine.yield(core.VALIDATE_CONT)
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	mine = coroutine.running()
	assert(not coroutine.resume(mine))
	assert(not pcall(coroutine.close, mine))
	return core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
	mine = coroutine.running()
	waiting = coroutine.create(function()
		waiting_inner = coroutine.running()
		msys.dnsLookup("slow.example")
	end)
	coroutine.resume(waiting)
	return core.VALIDATE_DONE
end

function mod:validate_mailfrom(str, ac, vctx)
	for _, co in ipairs({ mine, waiting, waiting_inner }) do
		local ok, why = coroutine.resume(co, 1, 2, 3)
		assert(not ok and why:find("cannot resume"), why)
		assert(not pcall(coroutine.close, co))
	end
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
