-- Coroutines that hoard.
--! steps 100000000
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of memory (script_max_memory)
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local t = {}
	for i = 1, 1e9 do
		t[i] = coroutine.create(print)
	end
end

msys.registerModule("site", mod)
