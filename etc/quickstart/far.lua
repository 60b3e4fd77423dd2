-- The far side of `make run`.
require("msys.core")
require("msys.extended.message")
require("msys.extended.vctx")

local mod = {}

function mod:validate_rcptto(msg, str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "rcptto_localpart") == "later" then
    vctx:set_code(451, "4.7.1 come back later")
    return msys.core.VALIDATE_DONE
  end
  return msys.core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:discard("550 5.7.1 taken by the quick start's far side")
  return msys.core.VALIDATE_CONT
end

msys.registerModule("far", mod)
