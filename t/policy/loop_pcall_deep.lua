-- Recursion through pcall: overflows that are caught do not let it go deeper and deeper, and it dies of its budget.
--! steps 100000
--! memory 67108864
--! connect 421
--! log CALLOUT error in site:validate_connect (phase connect
--! log out of instructions
--! log loop_pcall_deep.lua:
--! mailfrom 421
--! rcptto 421
--! data cont
local core = require("msys.core")
local mod = {}
local deepest = 0

local function at(depth)
	if depth > deepest then deepest = depth end
end

function mod:validate_connect(ac, vctx)
	local function f(n)
		at(n)
		pcall(f, n + 1)
		pcall(f, n + 1)
	end
	f(1)
end

function mod:validate_mailfrom(str, ac, vctx)
	local function f(n)
		at(n)
		if not pcall(f, n + 1) then f(n + 1) end
	end
	f(1)
end

function mod:validate_rcptto(str, ac, vctx)
	local function f(n)
		at(n)
		xpcall(f, print, n + 1)
		xpcall(f, print, n + 1)
	end
	f(1)
end

function mod:validate_data(msg, ac, vctx)
	assert(deepest > 50 and deepest <= 1000, deepest)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
