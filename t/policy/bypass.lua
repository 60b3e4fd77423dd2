-- A context key switches a module off for its session.
--! bypass site
--! data cont
--! session new
--! data 550 no
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	vctx:set_code(550, "no")
	return core.VALIDATE_DONE
end

msys.registerModule("site", mod)
