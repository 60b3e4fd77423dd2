local mod = {}
function mod:validate_ehlo()
  local t = setmetatable({}, { __gc = function() while true do end end, __close = function() error(1) end })
  pcall(function() while true do t = nil collectgarbage() end end)
  local s = string.rep("x", 2 ^ 30)
end
function mod:validate_mailfrom(s)
  return ("a"):rep(5000):gsub("(a*)*b", "%1"), coroutine.wrap(function() coroutine.yield(s) end)()
end
function mod:validate_rcptto() return load("return " .. ("("):rep(190) .. "1")() end
msys.registerModule("b", mod)
