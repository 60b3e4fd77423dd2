-- A require that finds nothing is an error at load.
--! load module 'nothing.here' not found
require("nothing.here")
