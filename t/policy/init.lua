-- init runs once the file is loaded and says true.
--! data cont
--! log scriptlet: init ran
--! nolog no usable methods
msys.registerModule("only_init", { init = function() print("init ran") return true end })
