-- require of a module that is there.
--! data 421
--! log CALLOUT error in site:validate_data (phase data
--! log out of instructions
--! log loop_require.lua:
--! data 421
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		assert(require("lib/helper") == require("lib.helper"))
	end
end

msys.registerModule("site", mod)
