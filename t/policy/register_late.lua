-- Modules are registered while files are loaded, not in callouts.
--! data 421
--! log registerModule is only possible while scripts are loaded
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	msys.registerModule("more", { validate_data = print })
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
