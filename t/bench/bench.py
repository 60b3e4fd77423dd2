#!/usr/bin/python3
"""bench.py: accepts and relays mail with impetusd and with Postfix in turn, seconds apart in one run, and prints medians
and ratios. BENCH=short: one repetition. Needs root (cgroups for CPU, Postfix in its own folder). It asserts no time.

    w1  accept and queue durably, nothing delivered; 50 and 1 kept sessions, 4 KiB
    w2  source -> MTA -> sink, until the last message is in the sink; 50 and 1 kept sessions, 4 KiB

Load tools are Postfix's smtp-source and smtp-sink; both MTAs run as shipped as to durability, logs on."""
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
HERE = TOP / "t/bench/peer"
SCRATCH = TOP / "build/bench"
PORT, SINK = 2525, 2626
SHORT = os.environ.get("BENCH") == "short"
REPEAT = 1 if SHORT else 3
SECONDS = 3 if SHORT else 6


def wait_until(cond, seconds, step=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cond():
            return True
        time.sleep(step)
    return False


class Peer:
    def __init__(self, name, mode, sessions):
        self.dir, self.name = HERE / name, name
        self.cgroup = next(line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "cgroup2") + \
            "/bench-%s-%d" % (name, os.getpid())
        os.makedirs(self.cgroup, exist_ok=True)
        self.env = dict(os.environ, SCRATCH=str(SCRATCH), P_LIB=str(HERE / "lib.sh"), P_PORT=str(PORT),
                        P_SINK=str(SINK), P_MODE=mode, P_SESSIONS=str(sessions), P_CGROUP=self.cgroup)

    def script(self, name, join=False):
        def enter():
            if join:
                pathlib.Path(self.cgroup, "cgroup.procs").write_text(str(os.getpid()))
        return subprocess.run([str(self.dir / name)], env=self.env, preexec_fn=enter, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True)

    def cpu(self):
        text = pathlib.Path(self.cgroup, "cpu.stat").read_text()
        return int(re.search(r"usage_usec (\d+)", text)[1]) / 1e6

    def __enter__(self):
        self.script("wipe")
        os.sync()
        if self.script("start", join=True).returncode:
            raise SystemExit("bench: %s does not start" % self.name)
        return self

    def __exit__(self, *exc):
        self.script("stop")
        self.script("wipe")
        wait_until(lambda: not subprocess.run(["rmdir", self.cgroup], stderr=subprocess.DEVNULL).returncode, 5, 0.1)


class Counter:
    """A load tool that prints a running count."""

    def __init__(self, args, pattern):
        self.count, self.last, self.t0 = 0, None, time.monotonic()
        self.p = subprocess.Popen(["chroot", str(SCRATCH / "root-postfix")] + args, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self.read, args=(re.compile(pattern),), daemon=True).start()

    def read(self, pattern):
        tail = b""
        while True:
            data = os.read(self.p.stdout.fileno(), 65536)
            if not data:
                return
            tail = (tail + data)[-200:]
            found = pattern.findall(tail[:tail.rfind(b"\r")] if b"\r" in tail else b"")
            if found and int(found[-1]) != self.count:
                self.count, self.last = int(found[-1]), time.monotonic()

    def running(self):
        return self.p.poll() is None

    def stop(self):
        if self.running():
            self.p.kill()
        self.p.wait()


def source(sessions, n, size=4096):
    return Counter(["/usr/sbin/smtp-source", "-c", "-d", "-s", str(sessions), "-m", str(n), "-l", str(size), "-f",
                    "from@source.test", "-t", "to@dest.test", "127.0.0.1:%d" % PORT], rb"(\d+)")


def sink():
    return Counter(["/usr/sbin/smtp-sink", "-u", "nobody", "-c", "-m", "4000", "127.0.0.1:%d" % SINK, "4000"], rb"mesg=(\d+)")


def w1(name, sessions):
    with Peer(name, "hold", sessions) as p:
        w = source(sessions, 10 ** 6)
        time.sleep(1)
        w.stop()
        c0, s = p.cpu(), source(sessions, 10 ** 6)
        wait_until(lambda: not s.running(), SECONDS)
        secs, n = time.monotonic() - s.t0, s.count
        s.stop()
        return n / secs, 1000 * (p.cpu() - c0) / max(n, 1)


def w2(name, sessions):
    n = (5000 if SHORT else 20000) if sessions > 1 else (1000 if SHORT else 4000)
    k = sink()
    time.sleep(0.3)
    try:
        with Peer(name, "relay", sessions) as p:
            w = source(10, 200)
            wait_until(lambda: k.count >= 200, 20)
            w.stop()
            base, c0, s = k.count, p.cpu(), source(sessions, n)
            wait_until(lambda: k.count - base >= n, 120)
            got, secs = k.count - base, (k.last or time.monotonic()) - s.t0
            s.stop()
            time.sleep(0.2)
            return got / secs, 1000 * (p.cpu() - c0) / max(got, 1)
    finally:
        k.stop()


def main():
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    subprocess.run([str(TOP / "t/tools/peers")], check=True)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    peers = ["postfix", "impetus"]
    for p in peers:
        subprocess.run([str(HERE / p / "install")], check=True,
                       env=dict(os.environ, SCRATCH=str(SCRATCH), P_LIB=str(HERE / "lib.sh")))
    rows = {}
    for _ in range(REPEAT):
        for what, fn, sessions in (("w1 accept", w1, 50), ("w1 accept", w1, 1), ("w2 relay", w2, 50), ("w2 relay", w2, 1)):
            for p in peers:
                rows.setdefault((what, sessions), {}).setdefault(p, []).append(fn(p, sessions))
    lines = ["%-10s %8s  %-8s %12s %16s" % ("workload", "sessions", "peer", "messages/s", "CPU ms/message")]
    for (what, sessions), by in rows.items():
        med = {p: [statistics.median(x[i] for x in by[p]) for i in (0, 1)] for p in peers}
        for p in peers:
            lines.append("%-10s %8d  %-8s %12.0f %16.3f" % (what, sessions, p, *med[p]))
        lines.append("%-10s %8d  %-8s %11.2fx %15.3fx" % (what, sessions, "ratio", med["impetus"][0] / max(1, med["postfix"][0]),
                                                         med["impetus"][1] / max(1e-9, med["postfix"][1])))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    (TOP / "build/bench/table.txt").write_text(text)


if __name__ == "__main__":
    main()
