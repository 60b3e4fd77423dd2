-- ... and when it does not fail, other modules that took what they need still work.
--! data 421
--! log no global nonsense
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	return nonsense
end

msys.registerModule("site", mod)
local set, err = setmetatable, error
for _, name in ipairs({ "pcall", "error", "print", "rawget", "next", "select", "load" }) do
	_G[name] = nil
end
set(_G, { __index = function(t, k) err("no global " .. k) end })
