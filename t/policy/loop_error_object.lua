-- The error object has a looping __tostring and a closing function.
--! data 421
--! log out of instructions
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local x <close> = setmetatable({}, { __close = function() while true do end end })
	error(setmetatable({}, { __tostring = function() while true do end end }))
end

msys.registerModule("site", mod)
