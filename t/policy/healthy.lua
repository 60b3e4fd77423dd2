-- Loaded beside every script of this folder: whatever that one does, this module must go on answering.
local core = require("msys.core")
local mod = {}

function mod:validate_ehlo(str, ac, vctx)
	vctx:set_code(250, "healthy " .. tostring(str))
	return core.VALIDATE_CONT
end

msys.registerModule("healthy", mod)
