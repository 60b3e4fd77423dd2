-- ... and the closing function has one too, and pcalls.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_close_nested.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local function closer(n)
		return setmetatable({}, { __close = function()
			local y <close> = n > 0 and closer(n - 1) or nil
			while true do
				pcall(function() while true do end end)
			end
		end })
	end
	local x <close> = closer(5)
	while true do end
end

msys.registerModule("site", mod)
