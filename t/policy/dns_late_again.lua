-- Waiting again and again does not win more time.
--! tick 1000
--! seconds 1
--! dns host.example A = 192.0.2.1
--! data 421
--! log out of
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		pcall(msys.dnsLookup, "host.example")
	end
end

msys.registerModule("site", mod)
