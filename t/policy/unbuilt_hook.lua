-- A hook that only looks on is named, and is no error.
--! log hook core_log_reception_v1 of module site is not built yet: it is never called
--! data cont
--! nolog no usable methods
msys.registerModule("site", { core_log_reception_v1 = function() end })
