-- ... in pcall, again and again.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_pattern_pcall.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	local s = ("a"):rep(3000)
	while true do
		pcall(string.match, s, ("a-"):rep(20) .. "b")
		pcall(string.gsub, s, "(.-).-%1b", "")
	end
end

msys.registerModule("site", mod)
