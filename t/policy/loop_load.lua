-- Code that makes code.
--! data 421
--! log out of instructions
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	while true do
		load("while true do end")()
	end
end

msys.registerModule("site", mod)
