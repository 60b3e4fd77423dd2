-- Header lines without end.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_header.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		msg:header("X-Loop", ("v"):rep(2000), "append")
	end
end

msys.registerModule("site", mod)
