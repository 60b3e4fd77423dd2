-- Reading and changing the body.
--! data cont
--! body new
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	assert(msg:body() == "Hello\r\nworld\r\n")
	msg:body("new\nlines\r\n.\r\n")
	assert(msg:body() == "new\r\nlines\r\n")
	msg:body("")
	assert(msg:body() == "")
	msg:body("new text\rx")
	assert(msg:body() == "new text\r\nx\r\n")
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
