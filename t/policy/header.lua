-- Reading and changing headers.
--! data cont
--! header X-First: top
--! header Subject: =?UTF-8?B?
--! header X-Two: one
--! header X-Inject: a b: c
--! nolog CALLOUT
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	assert(msg:header("X-First", "top", "prepend"))
	assert(msg:header("X-First")[1] == "top")
	assert(msg:header("Subject", "gr\u{fc}\u{df}e an alle"))
	assert(msg:header("subject")[1] == "gr\u{fc}\u{df}e an alle" and #msg:header("subject") == 1)
	assert(msg:header("X-Two", { "one", "two" }, "append"))
	assert(#msg:header("X-Two") == 2 and msg:header("x-two")[2] == "two")
	assert(msg:header("To", "") and #msg:header("To") == 0)
	assert(not msg:header("X-None", ""))
	assert(msg:header("X-Inject", "a\r\nb: c"))
	assert(#msg:header("b") == 0)
	local long = ("\u{e4}"):rep(200) .. " end"
	msg:header("X-Long", long)
	assert(msg:header("X-Long")[1] == long)
	assert(msg:get_message_size() > 300)
	return core.VALIDATE_CONT
end

msys.registerModule("site", mod)
