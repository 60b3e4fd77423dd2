-- Recursion without end is a stack overflow, which is an ordinary error; then it loops.
--! ceiling 268435456
--! memory 67108864
--! steps 10000000
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_recursion.lua:
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
