-- A script that spoils the globals spoils them for scripts, not for the host.
--! load module 'nothing' not found
setmetatable(_G, { __index = function(t, k) error("no global " .. tostring(k)) end, __newindex = function() error("none") end })
require("nothing")
