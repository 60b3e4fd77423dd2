-- A coroutine whose wait could not be: nobody can go on with it.
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local co = coroutine.create(function() return msys.dnsLookup("host.example") end)
	local ok, err = pcall(table.sort, { 2, 1 }, function(a, b) return coroutine.resume(co) end)
	assert(not ok and err:find("cannot wait here"), err)
	ok, err = coroutine.resume(co)
	assert(not ok and err:find("cannot resume"), err)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
