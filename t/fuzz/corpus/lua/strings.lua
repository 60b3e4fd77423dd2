local m = {}
function m:validate_connect()
  local a = string.format("%5.2f %q %s %x %-10s", 1.5, "a\0b", {}, 255, "z") .. table.concat({ 1, 2 }, ",")
  for k, v in a:gmatch("(%w+)%s*(%w*)") do a = k .. v end
  a = a:gsub("%f[%w]%w+", { x = 1 }):find("[^%s%d]-$") or utf8.char(233, 0x10ffff)
  return string.pack("<i4z", 7, "q"):unpack("<i4"), math.tointeger(2 ^ 53) // 3, table.unpack({ 1, 2, 3 }, 1, 3)
end
msys.registerModule("s", m)
