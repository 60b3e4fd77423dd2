-- A result that is none: refused for now.
--! data 421
--! log returned number
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	vctx:set_code(250, "fine")
	return 7
end

msys.registerModule("site", mod)
