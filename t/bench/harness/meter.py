"""Memory of processes, by what kind of memory it is."""
import re
import threading

FIELDS = ("anon", "shmem", "file")


def memory(pids):
    """MiB of all pids together: pss and rss; anon, shmem and file are parts of rss, where shmem counts each process's
    mapping of the same page; own is anon + shmem. procs: how many processes there are."""
    total = dict.fromkeys(("procs", "pss", "rss") + FIELDS, 0)
    for pid in pids:
        try:
            rollup = open("/proc/%d/smaps_rollup" % pid).read()
            status = open("/proc/%d/status" % pid).read()
        except OSError:
            continue
        found = re.search(r"^Rss:\s+(\d+).*?^Pss:\s+(\d+)", rollup, re.S | re.M)
        if not found:
            continue
        total["procs"] += 1
        total["rss"] += int(found[1]) / 1024
        total["pss"] += int(found[2]) / 1024
        for name in FIELDS:
            total[name] += int(re.search(r"Rss%s:\s+(\d+)" % name, status, re.I)[1]) / 1024
    total["own"] = total["anon"] + total["shmem"]
    return total


class Peak(threading.Thread):
    """The highest of each figure while it runs, looked at every `every` seconds."""

    def __init__(self, look, every=1.0):
        super().__init__(daemon=True)
        self.look, self.every, self.high, self.done = look, every, {}, threading.Event()
        self.start()

    def run(self):
        while True:
            for k, v in self.look().items():
                self.high[k] = max(v, self.high.get(k, 0))
            if self.done.wait(self.every):
                return

    def stop(self):
        self.done.set()
        self.join()
        return self.high
