-- Said with file and line; nothing hangs on the chain.
--! load syntax_error.lua:5: 
local mod = {}

mod.x = = 1
