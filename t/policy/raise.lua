-- An ordinary error: refused for now, with line and traceback in the log; what was said before does not count.
--! data 421
--! log CALLOUT error in site:validate_data (phase data, connection 00/00-00000-00001234, defined at raise.lua:14): script error
--! log CALLOUT error   raise.lua:11: no such thing
--! log CALLOUT error   raise.lua:11: in upvalue 'deep'
--! log CALLOUT error   raise.lua:16: in function <raise.lua:14>
local core = require("msys.core")
local mod = {}

local function deep()
	error("no such thing")
end

function mod:validate_data(msg, ac, vctx)
	vctx:set_code(250, "fine")
	return deep() + 1
end

msys.registerModule("site", mod)
