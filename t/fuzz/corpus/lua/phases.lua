local core = require("msys.core")
local mod = { n = 0 }
function mod:init() return true end
function mod:validate_connect(ac, vctx)
  vctx:set(core.VCTX_CONN, "k", "v" .. tostring(ac)); return core.VALIDATE_CONT
end
function mod:validate_ehlo(str, ac, vctx)
  local r, e = msys.dnsLookup("a." .. str, "mx")
  if r then for _, v in ipairs(r) do vctx:set(core.VCTX_MESS, "r", tostring(v)) end end
  ac:esmtp_capability_add("X"); vctx:set_code(250, "hi " .. tostring(e)); return core.VALIDATE_CONT
end
function mod:validate_mailfrom(str, ac, vctx)
  if vctx:exists(core.VCTX_CONN, "k") then vctx:set_code(451, "later\nno") end
  return core.VALIDATE_DONE
end
msys.registerModule("site", mod)
