-- The session ends while its script waits: nobody is called any more, closing functions do not run on.
--! data cancel
--! data cancel
--! data_spool cont
--! mess closed=1,
local core = require("msys.core")
local mod = {}
closed = 0

function mod:validate_data(msg, ac, vctx)
	local x <close> = setmetatable({}, { __close = function() closed = closed + 100 end })
	local co = coroutine.wrap(function()
		msys.dnsLookup("slow.example")
	end)
	while true do
		pcall(co)
	end
end

function mod:validate_data_spool(msg, ac, vctx)
	vctx:set(core.VCTX_MESS, "closed", closed + 1)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
