-- In a coroutine, called in pcall, with a closing function in it.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_wrap_pcall.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local function co()
		local x <close> = setmetatable({}, { __close = function() while true do end end })
		while true do end
	end
	while true do
		pcall(coroutine.wrap(co))
		coroutine.resume(coroutine.create(co))
		local c = coroutine.create(co)
		coroutine.resume(c)
		coroutine.close(c)
	end
end

msys.registerModule("site", mod)
