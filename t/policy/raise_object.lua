-- An error that is no text.
--! data 421
--! log (error object is a table value)
local core = require("msys.core")
local mod = {}

function mod:validate_data(msg, ac, vctx)
	error({})
end

msys.registerModule("site", mod)
