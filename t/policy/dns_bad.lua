-- A bad type, and waiting where C code is in between, are errors, not hangs.
--! data 421
--! log msys.dnsLookup: unknown record type SPAM
--! data_spool 421
--! log cannot wait inside a function that C code calls
--! rcptto 421
--! log a coroutine cannot wait here
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	msys.dnsLookup("host.example", "SPAM")
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	table.sort({ 2, 1 }, function(a, b) return msys.dnsLookup("host.example") == nil end)
	return core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
	local co = coroutine.wrap(function() return msys.dnsLookup("host.example")[1] end)
	return (("x"):gsub("x", function() return co() end))
end

msys.registerModule("site", mod)
