-- Pcalls in pcalls, each ready to go on.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_pcall_nested.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local function again(n)
		if n == 0 then
			while true do end
		end
		while true do
			pcall(again, n - 1)
		end
	end
	again(20)
end

msys.registerModule("site", mod)
