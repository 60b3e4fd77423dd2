-- Recursion without end is a stack overflow, which is an ordinary error; then it loops.
--! data 421
--! log CALLOUT error in site:validate_data
--! log out of
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local function f() return 1 + f() end
	while true do
		pcall(f)
	end
end

msys.registerModule("site", mod)
