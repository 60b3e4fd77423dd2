"""Cost as work grows: CPU of a relayed message by number of domains, bindings and workers. Points take turns."""
from . import base, relay

SHOW = [("cpu", "CPU ms/message", "%.3f"), ("rate", "messages/s", "%.0f")]
PEERS = ["impetus"]
# As the quick start's, but that each recipient's number says which binding it leaves by.
BINDINGS = """
require("msys.core")
require("msys.extended.message")
local mod, n = {}, 0
function mod:validate_data_spool_each_rcpt(msg, ac, vctx)
  msg:header("X-Greeted", "yes")
  return msys.core.VALIDATE_CONT
end
function mod:validate_set_binding(msg)
  n = n % %d + 1
  msg:binding("out" .. n)
  return msys.core.VALIDATE_CONT
end
msys.registerModule("site", mod)
"""
# name -> [(case, load's -d, bindings, workers)]
CURVES = {
    "curve-domains": [("1 domain", 1, 0, 0), ("1,000 domains", 1000, 0, 0), ("100,000 domains", 100000, 0, 0)],
    "curve-bindings": [("1 binding", 1, 1, 0), ("1,000 bindings", 1, 1000, 0)],
    "curve-workers": [("1 worker", 1, 0, 1), ("2 workers", 1, 0, 2), ("4 workers", 1, 0, 4)],
}


class Curve:
    """Looks like a module of pairs, for one curve."""

    def __init__(self, name):
        self.name, self.SHOW, self.PEERS = name, SHOW, PEERS

    def cases(self):
        return [(case, dict(d=d, bindings=b, workers=w)) for case, d, b, w in CURVES[self.name]]

    def measure(self, peer, case, d, bindings, workers):
        n = 5000 if base.SHORT else 20000
        # Each of 100,000 domains is met once, so a short run shows fewer.
        n = max(n, min(d, 100000) // (10 if base.SHORT else 1))
        env = {"P_IMPETUS_EXTRA": "workers = %d\n" % workers if workers else ""}
        if bindings:
            script = base.OUT / "root-impetus/bindings.lua"
            script.write_text(BINDINGS.replace("%d", str(bindings)))
            env["P_IMPETUS_SITE"] = "bindings"
            env["P_IMPETUS_EXTRA"] += "".join('Binding "out%d" { bind_address = "127.0.0.1" }\n' % i
                                              for i in range(2, bindings + 1))
        return relay.relayed(peer, "%s %s" % (self.name, case), 50, n, env, d=d)
