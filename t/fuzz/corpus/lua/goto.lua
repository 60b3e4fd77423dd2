local a <const>, b <close> = 1, nil
for i = 1, 10 do if i % 2 == 0 then goto next end; a2 = i & 7 | 3 ~ ~i << 2; ::next:: end
local t = { [1] = function(...) return select("#", ...), ... end, x = [[long]], --[==[ c ]==] }
repeat local x = t[1](t, nil, 0x1p4, 1e308 * 10) until x
print(pcall(error, setmetatable({}, { __tostring = function() return 1 end })), xpcall(error, debug.traceback))
