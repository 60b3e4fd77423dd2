-- DONE ends the chain: the healthy module's answer is not reached.
--! ehlo cont
--! data 550 5.7.1 no
--! data_spool 451 4.7.1 later
--! rcptto 421 bye
--! mailfrom 250 2.0.0 thanks
local core = require("msys.core")
local mod = {}
local first = true

function mod:validate_ehlo(str, ac, vctx)
	local result = first and core.VALIDATE_DONE or core.VALIDATE_CONT

	first = false
	return result
end

function mod:validate_data(msg, ac, vctx)
	vctx:set_code(550, "5.7.1 no")
	assert(vctx.code == 550 and vctx.note == "5.7.1 no")
	return core.VALIDATE_DONE
end

function mod:validate_data_spool(msg, ac, vctx)
	vctx:set_code("451", "4.7.1 later")
	return core.VALIDATE_DONE
end

function mod:validate_rcptto(msg, str, ac, vctx)
	vctx:disconnect(421, "bye")
	vctx:tarpit(5)
	return core.VALIDATE_DONE
end

function mod:validate_mailfrom(str, ac, vctx)
	vctx:set_code(250, "2.0.0 thanks")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
