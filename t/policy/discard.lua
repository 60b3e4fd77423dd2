-- Discarding: the reason must begin with a code.
--! data discard 550 5.7.0 discarded by policy
--! session new
--! data_spool discard 550 5.7.1 [internal] discarded by policy
--! session new
--! data_spool_each_rcpt discard 554 5.7.9 away
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	msg:discard()
	return core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
	msg:discard("because")
	return core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
	msg:discard("554 5.7.9 away")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
