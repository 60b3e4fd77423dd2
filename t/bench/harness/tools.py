"""load and sink as processes: their running counts as attributes."""
import re
import signal
import subprocess
import threading

from . import base, peer

PAIR = re.compile(r"(\w+)=(-?[\d.]+)")


class Tool:
    def __init__(self, name, args):
        self.cgroup, self.cpu_end = peer.Cgroup(name), None
        self.counts, self.ended, self.lock = {}, threading.Event(), threading.Lock()
        self.p = subprocess.Popen([str(base.BUILD / "t/bench" / name)] + [str(a) for a in args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, text=True, preexec_fn=self.cgroup.enter)
        self.first_line = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.p.stdout:
            new = {k: float(v) for k, v in PAIR.findall(line)}
            with self.lock:
                self.counts = new
            self.first_line.set()
        self.ended.set()

    def __getitem__(self, key):
        with self.lock:
            return self.counts.get(key, 0)

    def cpu(self):
        return self.cgroup.cpu()

    def stop(self):
        """Ends it in order; its counts are final then. Returns them."""
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds=None):
        """Until it ends by itself, or so many seconds."""
        if self.cpu_end is not None:
            return self.counts
        try:
            rc = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.stop()
        self.reader.join(10)
        if rc != 0:
            base.complain("%s ended with %d" % (self.p.args[0].rsplit("/", 1)[1], rc))
        self.cpu_end = self.cgroup.cpu()
        self.cgroup.remove()
        return self.counts


class Load(Tool):
    def __init__(self, sessions=50, size=4096, one=False, port=base.PORT, **opt):
        """opt: m, t, n, d, b, p, S, D, w, P, i, as load's own options."""
        args = ["-a", port, "-s", sessions, "-l", size] + (["-1"] if one else [])
        for k, v in opt.items():
            args += ["-" + k] if v is True else ["-" + k, v]
        super().__init__("load", args)

    def check(self, what, ok=None):
        """Complains about whatever is not as it should be after it has ended."""
        c = self.counts
        for k in ("temp", "perm", "lost", "unfinished", "odd", "shut"):
            if c.get(k, 0):
                base.complain("%s: load counts %s=%d" % (what, k, c[k]))
        if ok is not None and c.get("ok") != ok:
            base.complain("%s: %d of %d messages were accepted" % (what, c.get("ok", -1), ok))


class Sink(Tool):
    def __init__(self, *args):
        super().__init__("sink", ["-a", base.SINK_PORT] + list(args))
        if not self.first_line.wait(10):
            raise SystemExit("bench: sink does not start")

    def check(self, what, rcpts=None):
        c = self.counts
        for k in ("again", "altered", "foreign", "cut", "odd"):
            if c.get(k, 0):
                base.complain("%s: sink counts %s=%d" % (what, k, c[k]))
        if rcpts is not None and c.get("rcpts") != rcpts:
            base.complain("%s: %d of %d messages arrived" % (what, c.get("rcpts", -1), rcpts))
