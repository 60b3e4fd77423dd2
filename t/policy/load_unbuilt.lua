-- A part of the API that is not built is an error at load.
--! load msys: msys.pcre is not built yet
require("msys.pcre")
