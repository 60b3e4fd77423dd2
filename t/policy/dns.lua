-- msys.dnsLookup: rows, errors, MX with preferences, in pcall and in coroutines of the script.
--! dns host.example A = 192.0.2.1 192.0.2.2
--! dns host.example MX = 10/mx1.example 20/mx2.example
--! dns none.example A ! NXDOMAIN
--! data cont
--! mess a=192.0.2.1+192.0.2.2,
--! mess mx=mx1.example,
--! mess pref=20,
--! mess none=NXDOMAIN,
--! mess inner=192.0.2.2,
--! mess deep=NXDOMAIN,
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local a = msys.dnsLookup("host.example")
	vctx:set(core.VCTX_MESS, "a", a[1] .. "+" .. a[2])
	vctx:set(core.VCTX_MESS, "mx", msys.dnsLookup("host.example", "mx")[1])
	vctx:set(core.VCTX_MESS, "pref", msys.dnsLookup("host.example", "MX", { priority = true })[2][1])
	local ok, none, err = pcall(msys.dnsLookup, "none.example", "A")
	assert(ok and none == nil)
	vctx:set(core.VCTX_MESS, "none", err)
	local f = coroutine.wrap(function(x)
		local y = coroutine.yield(x + 1)
		local r = msys.dnsLookup("host.example")
		coroutine.yield(r[y])
		local g = coroutine.wrap(function() return select(2, msys.dnsLookup("none.example", "A")) end)
		return g()
	end)
	assert(f(1) == 2)
	vctx:set(core.VCTX_MESS, "inner", f(2))
	vctx:set(core.VCTX_MESS, "deep", f())
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
