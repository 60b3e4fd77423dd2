-- gsub, gmatch, find and match give what Lua's own give.
--! data cont
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

local function all(s, p)
	local t = {}
	for a, b in s:gmatch(p) do
		t[#t + 1] = b and (tostring(a) .. "=" .. tostring(b)) or tostring(a)
	end
	return table.concat(t, ",")
end

local rows = {
	{ "hello world", "o", "0", "hell0 w0rld 2" },
	{ "hello", "", "-", "-h-e-l-l-o- 6" },
	{ "hello", "l*", "x", "xhxexox 4" },
	{ "hello world", "(%w+)", "<%1>", "<hello> <world> 2" },
	{ "hello world", "%w+", "%0 %0", "hello hello world world 2" },
	{ "hello world from Lua", "(%w+)%s*(%w+)", "%2 %1", "world hello Lua from 2" },
	{ "abc", "^a", "x", "xbc 1" },
	{ "aaa", "^a", "x", "xaa 1" },
	{ "abc", "b", "%%", "a%c 1" },
	{ "abc", "%w", { a = 1, b = false }, "1bc 3" },
	{ "abc", "(b)()", function(c, at) return c .. at end, "ab3c 1" },
	{ "abc", "b", function() end, "abc 1" },
	{ "a,b,,c", ",", ";", "a;b;;c 3" },
	{ "THE (quick) fox", "%((%a+)%)", "%1", "THE quick fox 1" },
	{ "  trim  ", "^%s*(.-)%s*$", "%1", "trim 1" },
}

function mod:validate_data(msg, ac, vctx)
	for i, r in ipairs(rows) do
		local s, n = r[1]:gsub(r[2], r[3])
		assert(s .. " " .. n == r[4], i .. ": " .. s .. " " .. n)
	end
	assert(("abcabc"):gsub("b", "x", 1) == "axcabc" and select(2, ("aaa"):gsub("a", "b", 0)) == 0)
	assert(all("one two  three", "%a+") == "one,two,three")
	assert(all("k=v, from=world", "(%w+)=(%w+)") == "k=v,from=world")
	assert(all("abc", "") == ",,,")
	assert(all("abc", "()") == "1,2,3,4")
	assert(all("^a^b", "^%a") == "^a,^b")
	assert(all("xuxx uu ppar r", "x*") == "x,xx,,,,,,,,,,")
	local a, b, c = ("key = value"):find("^(%w+)%s*=%s*(%w+)$")
	assert(a == 1 and b == 11 and c == "key")
	assert(("a.b"):find(".", 1, true) == 2 and ("a.b"):find("b", -1) == 3 and ("a.b"):find("", 10) == nil)
	assert(("a.b"):find("", 4) == 4 and ("abc"):find("b", -10) == 2)
	assert(("2026-11-21"):match("(%d+)-(%d+)-(%d+)") == "2026" and ("x"):match("y") == nil)
	assert(("f(a(b)c)d"):match("%b()") == "(a(b)c)" and ("THE (quick)"):find("%f[%a]%a+%f[%A]") == 1)
	assert(("\0a\0"):find("%z") == 1 and ("a\0b"):match("a%zb") == "a\0b" and ("a\0b"):find("\0") == 2)
	assert(#("x"):rep(5) == 5 and ("x"):rep(0) == "" and ("x"):rep(-1) == "" and ("ab"):rep(2, "-") == "ab-ab")
	for _, bad in ipairs({ "%2", "%9" }) do
		assert(not pcall(string.gsub, "abc", "(b)", bad))
	end
	assert(not pcall(string.gsub, "abc", "b", "%x") and not pcall(string.gsub, "abc", "b"))
	assert(not pcall(string.gsub, "abc", "b", function() return {} end))
	assert(string.gfind == string.gmatch)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
