-- A finalizer that ends works: in the callout that made the object, or later; one that raises is logged only.
--! data cont
--! mess ran=1,
--! data_spool cont
--! log error in a __gc function: finalizer.lua:
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}
ran = 0

function mod:validate_data(msg, ac, vctx)
	local mt = { __gc = function() ran = ran + 1 end }
	local kept = setmetatable({ 1 }, mt)
	setmetatable({}, mt)
	assert(getmetatable(kept) == mt and mt.__gc ~= nil)
	collectgarbage()
	assert(kept[1] == 1)
	vctx:set(core.VCTX_MESS, "ran", ran)
	assert(not pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {}))
	assert(not pcall(setmetatable, 1, {}) and not pcall(setmetatable, {}, 1))
	assert(getmetatable(setmetatable(setmetatable({}, mt), nil)) == nil)
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	setmetatable({}, { __gc = function() error("oops") end })
	collectgarbage("collect")
	assert(collectgarbage("count") > 0 and collectgarbage("stop") == 0)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
