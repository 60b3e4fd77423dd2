-- A module without a known function is said, and is no error.
--! log no usable methods found for module site in registerModule call
--! data cont
msys.registerModule("site", { validate_dta = function() end })
