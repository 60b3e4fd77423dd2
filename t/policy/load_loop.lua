-- A file that loops while it is loaded.
--! steps 10000
--! load out of instructions
pcall(function() while true do end end)
