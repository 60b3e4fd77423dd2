-- Waiting while a file is loaded is not possible.
--! load msys: msys.dnsLookup is only possible in a callout
msys.dnsLookup("host.example")
