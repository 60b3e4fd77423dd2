-- Nothing here reaches the machine, the interpreter or the budget.
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	for _, name in ipairs({ "io", "package", "dofile", "loadfile", "warn", "posix", "module" }) do
		assert(_G[name] == nil, name)
	end
	for _, name in ipairs({ "execute", "exit", "getenv", "remove", "rename", "setlocale", "tmpname" }) do
		assert(os[name] == nil, name)
	end
	for k in pairs(debug) do
		assert(k == "traceback" or k == "getinfo", k)
	end
	assert(string.dump == nil)
	assert(debug.getinfo(1).currentline > 0 and debug.getinfo(print, "S").what == "C" and debug.getinfo(1, "l").func == nil)
	assert(not pcall(debug.getinfo, 2, "f") and not pcall(debug.getinfo, coroutine.running(), 1, "Sf"))
	assert(debug.getinfo(coroutine.running(), 1).short_src == "sandbox.lua" and debug.getinfo(99) == nil)
	assert(load("\27Lua") == nil)
	assert(not pcall(load, function() return "" end))
	assert(select(2, load("return 1 +")):find("unexpected symbol near <eof>") or true)
	assert(load("return x", "chunk", "b", { x = 7 })() == 7)
	assert(not pcall(require, "no.such.module") and not pcall(require, "../site"))
	assert(require("lib/helper").double(4) == 8 and require("lib.helper") == require("lib/helper"))
	assert(type(os.time()) == "number" and os.date("!%Y", 0) == "1970")
	assert(tonumber("0x10") == 16 and ("x"):rep(3, ",") == "x,x,x" and table.concat({ 1, 2 }, "+") == "1+2")
	local ok, err = pcall(string.rep)
	assert(err:find("bad argument #1 to 'string.rep'"), err)
	ok, err = pcall(function() table.insert(nil, 1) end)
	assert(err:find("sandbox.lua:%d+: bad argument #1 to 'insert'"), err)
	assert(math.floor(3.7) == 3 and utf8.char(228) == "\u{e4}" and #utf8.char(228) == 2)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
