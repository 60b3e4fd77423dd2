local core = require("msys.core")
require("msys.extended.message")
local mod = {}
function mod:validate_data_spool(msg, ac, vctx)
  local h = msg:header("subject"); msg:header("X-A", { "b", tostring(h[1]) })
  msg:header("received", nil); msg:body("\r\nnew " .. msg:mailfrom() .. msg:get_message_size())
  return core.VALIDATE_CONT
end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:rcptto("x@y.test"); msg:context_set(core.ECMESS_CTX_MESS, "a", "b"); msg:routing_domain("z.test")
  return core.VALIDATE_CONT
end
function mod:validate_set_binding(msg, ac, vctx)
  if not msg:binding("out1") then msg:discard("no") end
  return core.VALIDATE_CONT
end
msys.registerModule("m", mod)
