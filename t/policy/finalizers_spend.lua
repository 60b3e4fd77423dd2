-- Finalizers that one callout left have one budget together: when it is spent, the others of that time never run, not those
-- that the collector finds later either. Objects made afterwards have theirs.
--! connect cont
--! mailfrom cont
--! log __gc function between callouts: out of instructions
--! rcptto cont
--! data cont
--! data_spool cont
--! mess began=1,fresh=1,loaded=1,
--! log those of all objects made until now are skipped
--! nolog CALLOUT error in
local core = require("msys.core")
local mod = {}
local began, fresh, loaded = 0, 0, 0
local left, later, kept = {}, {}, nil
local first = setmetatable({}, { __gc = function() loaded = loaded + 1 end })

function mod:validate_connect(ac, vctx)
	local mt = { __gc = function() began = began + 1 while true do end end }
	for i = 1, 1000 do
		left[i] = setmetatable({}, mt)
		later[i] = setmetatable({}, mt)
	end
	first = nil
	collectgarbage()
	return core.VALIDATE_CONT
end

function mod:validate_mailfrom(str, ac, vctx)
	left = nil
	collectgarbage()
	return core.VALIDATE_CONT
end

function mod:validate_rcptto(str, ac, vctx)
	later = nil
	kept = setmetatable({}, { __gc = function() fresh = fresh + 1 end })
	collectgarbage()
	return core.VALIDATE_CONT
end

function mod:validate_data(msg, ac, vctx)
	kept = nil
	collectgarbage()
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	vctx:set(core.VCTX_MESS, "began", began)
	vctx:set(core.VCTX_MESS, "fresh", fresh)
	vctx:set(core.VCTX_MESS, "loaded", loaded)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
