-- VALIDATE_AGAIN calls the callout once more after a moment, within the same budget; for ever is out of time.
--! data 250 third time
--! data_spool late
--! log out of time
--! set_binding 421
--! log returned number of another value
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	self.times = (self.times or 0) + 1
	if self.times < 3 then
		return core.VALIDATE_AGAIN
	end
	vctx:set_code(250, "third time")
	return core.VALIDATE_DONE
end

function mod:validate_data_spool(msg, ac, vctx)
	return core.VALIDATE_AGAIN
end

function mod:validate_set_binding(msg)
	return core.VALIDATE_AGAIN
end

msys.registerModule("site", mod)
