-- An init that says anything else fails the configuration.
--! load module site: init returned
msys.registerModule("site", { init = function() return nil end })
