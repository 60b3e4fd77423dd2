-- A callout that could refuse, but is not built yet, must not be passed over in silence.
--! load msys: callout validate_rcptto_list of module site is not built yet
msys.registerModule("site", { validate_rcptto_list = function() end })
