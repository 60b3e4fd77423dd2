-- The policy of `make run`: one function a phase, each doing a little of what a site's policy does.
require("msys.core")
require("msys.extended.message")
require("msys.extended.vctx")

local mod = {}

function mod:validate_connect(ac, vctx)
  vctx:set(msys.core.VCTX_CONN, "greeted", "yes")
  return msys.core.VALIDATE_CONT
end

function mod:validate_ehlo(str, ac, vctx)
  return msys.core.VALIDATE_CONT
end

function mod:validate_mailfrom(str, ac, vctx)
  return msys.core.VALIDATE_CONT
end

function mod:validate_rcptto(msg, str, ac, vctx)
  if vctx:get(msys.core.VCTX_MESS, "rcptto_localpart") == "nobody" then
    vctx:set_code(550, "5.1.1 nobody lives here")
    return msys.core.VALIDATE_DONE
  end
  return msys.core.VALIDATE_CONT
end

function mod:validate_data(msg, ac, vctx)
  return msys.core.VALIDATE_CONT
end

function mod:validate_data_spool(msg, ac, vctx)
  return msys.core.VALIDATE_CONT
end

function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:header("X-Greeted", vctx:get(msys.core.VCTX_CONN, "greeted"))
  return msys.core.VALIDATE_CONT
end

function mod:validate_set_binding(msg)
  msg:binding("out1")
  return msys.core.VALIDATE_CONT
end

function mod:core_final_validation(msg, ac, vctx)
end

msys.registerModule("site", mod)
