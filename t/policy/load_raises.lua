-- A file that raises.
--! load load_raises.lua:3: no
error("no")
