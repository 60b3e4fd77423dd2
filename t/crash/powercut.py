#!/usr/bin/python3
"""powercut.py [--cuts N] [--seed S]: records every write, sync, rename, unlink and directory sync of a running impetusd's
spool (t/crash/record.c), cuts the power at N moments of the recording, and starts impetusd on what a disk would then
hold: only what was synced. No message that was answered 250 may be missing or altered.

Two disks are played in turn: one that forgets a new file's name until its directory was synced, and one that keeps it
with the file's own sync, as ext4 does. Prints its seed."""
import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from lib import corpus                               # noqa: E402
from lib.impetus import Impetus, wait_until          # noqa: E402
from lib.smtp import ID, Client, Sink                # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
HEAD = struct.Struct("<QQQQQII")
END = b"\r\n.\r\n"


def message(n):
    return b"Subject: %d\r\n\r\n" % n + (b"line %d of it\r\n" % n) * (n % 60 if n % 25 else 30000)


def events(path):
    """(op, ino, off, flags, name, data), in the order in which they were recorded."""
    with open(path, "rb") as f:
        used, = struct.unpack("<Q", f.read(8))
        log = f.read(used)
    at = 0
    while at + HEAD.size <= len(log):
        length, ino, off, name_len, data_len, op, flags = HEAD.unpack_from(log, at)
        if length == 0:
            break                                    # a process died while it wrote this one
        body = at + HEAD.size
        yield (chr(op), ino, off, flags, log[body:body + name_len].decode(),
               log[body + name_len:body + name_len + data_len])
        at += length


class File:
    def __init__(self, name):
        self.durable, self.pending, self.name, self.born = bytearray(), [], name, False

    def apply(self, upto):
        for off, data in self.pending[:upto]:
            if data is None:                         # truncated, or extended by zeroes
                del self.durable[off:]
                self.durable.extend(bytes(off - len(self.durable)))
            else:
                if len(self.durable) < off:
                    self.durable.extend(bytes(off - len(self.durable)))
                self.durable[off:off + len(data)] = data
        del self.pending[:upto]


class Disk:
    """What is on disk if the power goes now."""

    def __init__(self, kind):
        self.kind, self.files, self.names, self.durable, self.dirs, self.began = kind, {}, {}, {}, {}, {}

    def dir_op(self, path, op):
        self.dirs.setdefault(os.path.dirname(path), []).append(op)

    def dir_apply(self, ops):
        for op in ops:
            if op[0] == "add":
                self.durable[op[1]] = op[2]
            elif op[0] == "del":
                self.durable.pop(op[1], None)
            else:
                self.durable.pop(op[1], None)
                self.durable[op[2]] = op[3]

    def feed(self, op, ino, off, flags, name, data):
        if op == "C":
            self.files[ino] = File(name)
            self.names[name] = ino
            self.dir_op(name, ("add", name, ino))
        elif op == "W" and ino in self.files:
            f = self.files[ino]
            f.pending.append((off, data))
            if flags & 1:
                last = f.pending.pop()
                rest, f.pending = f.pending, [last]
                f.apply(1)
                f.pending = rest
        elif op == "T" and ino in self.files:
            self.files[ino].pending.append((off, None))
        elif op == "F" and ino in self.files and not flags & 1:
            size = max([len(self.files[ino].durable)] + [o + len(d or b"") for o, d in self.files[ino].pending])
            if off > size:
                self.files[ino].pending.append((off, None))
        elif op == "R":
            new = data.decode()
            if name in self.names:
                moved = self.names.pop(name)
                self.names[new] = moved
                self.dir_op(new, ("ren", name, new, moved))
        elif op == "U":
            self.names.pop(name, None)
            self.dir_op(name, ("del", name))
        elif op == "B":
            self.began[(off, ino)] = len(self.dirs.get(name, ())) if name else len(self.files[ino].pending) \
                if ino in self.files else 0
        elif op == "E":
            upto = self.began.pop((off, ino), 0)
            if name:
                ops = self.dirs.get(name, [])
                self.dir_apply(ops[:upto])
                del ops[:upto]
            elif ino in self.files:
                f = self.files[ino]
                f.apply(min(upto, len(f.pending)))
                if self.kind == "ext4" and not f.born:
                    f.born = True
                    ops = self.dirs.get(os.path.dirname(f.name), [])
                    for o in [o for o in ops if o[0] == "add" and o[2] == ino]:
                        ops.remove(o)
                        self.dir_apply([o])

    def write(self, root, to):
        for path, ino in self.durable.items():
            if os.path.basename(path) in ("lock.mdb", "keeper.lock"):
                continue
            target = to / os.path.relpath(path, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.files[ino].durable)


class Talk:
    """What was said: acknowledged ids, and ids whose final dot has gone to the next hop."""

    def __init__(self):
        self.acked, self.sent, self.open = set(), set(), {}

    def feed(self, op, ino, off, data):
        if op == "A":
            self.acked.update(ID.findall(data.decode("latin-1")))
        elif op == "S":
            buf = self.open.get((ino, off), b"") + data
            while END in buf:
                mail, buf = buf.split(END, 1)
                found = ID.findall(mail.decode("latin-1"))
                if found:
                    self.sent.add(found[0])
            self.open[(ino, off)] = buf if len(buf) < 1 << 21 else buf[:4096] + buf[-8:]


def preload(recorder, build):
    """A sanitizer's runtime wants to be the first."""
    if not build or not build.endswith("asan"):
        return str(recorder)
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return "%s %s" % (runtime, recorder)


def record(folder, build):
    """Runs the load; gives (recording, spool folder, {id: n})."""
    subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", str(folder / "record.so"),
                    str(HERE / "record.c"), "-ldl"], check=True)
    sink, ids = Sink(), {}
    mta = Impetus(folder / "recorded", sink.port, workers=2, build=build, as_user="nobody",
                  extra="retry_interval = 1\nsegment_size = 1048576",
                  env=dict(LD_PRELOAD=preload(folder / "record.so", build), RECORD_LOG=str(folder / "recorded/log.bin"),
                           RECORD_ROOT=str(folder / "recorded/spool"), RECORD_SINK=str(sink.port)))
    mta.start()

    def send(first):
        with Client(mta.port, timeout=60) as c:
            c.greet()
            for n in range(first, 600, 6):
                code, text = c.mail("s%d@source.test" % n, ["r%d@d%d.example.com" % (n, n % 3)], message(n))
                if code == 250:
                    ids[ID.findall(text)[0]] = n
    threads = [threading.Thread(target=send, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(ids) == 600, len(ids)
    sink.wait(600, 60)
    mta.finish()
    sink.close()
    return folder / "recorded/log.bin", folder / "recorded/spool", ids


def restart(folder, number, build, acked, sent, ids):
    """Starts impetusd on what the disk held; gives what is wrong."""
    sink = Sink()
    mta = Impetus(folder / ("cut%d" % number), sink.port, workers=2, build=build, as_user="nobody",
                  extra="retry_interval = 1\nsegment_size = 1048576")
    try:
        shutil.rmtree(mta.spool)
        shutil.copytree(folder / ("disk%d" % number), mta.spool)
        subprocess.run(["chown", "-R", "nobody", str(mta.spool)], check=True) if os.geteuid() == 0 else None
        mta.start()
        wait_until(lambda: mta.json("ledger")["queued"] == 0, 60, 0.1, "an empty queue after cut %d" % number)
        wrong = []
        got = {}
        for mail in sink.mails:
            found = ID.findall(mail.data.decode("latin-1"))
            if found:
                got.setdefault(found[0], []).append(corpus.without_trace(mail.data))
        for i in acked:
            if i not in sent and i not in got:
                wrong.append("cut %d: message %d (%s) was answered 250 and is lost" % (number, ids[i], i))
        for i, copies in got.items():
            if i in ids and any(data != message(ids[i]) for data in copies):
                wrong.append("cut %d: message %d (%s) was altered" % (number, ids[i], i))
        if mta.json("ledger")["difference"] != 0:
            wrong.append("cut %d: ledger %s" % (number, mta.json("ledger")))
        mta.finish()
        return wrong
    except AssertionError as e:
        return ["cut %d: %s" % (number, e)]
    finally:
        mta.stop()
        sink.close()
        shutil.rmtree(folder / ("disk%d" % number), ignore_errors=True)
        shutil.rmtree(mta.dir, ignore_errors=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cuts", type=int, default=50)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    a = p.parse_args()
    rng, build = random.Random(a.seed), os.environ.get("IMPETUS_BUILD")
    print("seed %d, %d cuts" % (a.seed, a.cuts), flush=True)
    with tempfile.TemporaryDirectory(prefix="impetus-power-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        log, root, ids = record(folder, build)
        n = sum(1 for _ in events(log))
        cuts = sorted(rng.sample(range(n // 50, n), min(a.cuts, n)))
        disks = {"ext4": Disk("ext4"), "strict": Disk("strict")}
        talk, jobs, wrong = Talk(), [], []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for i, (op, ino, off, flags, path, data) in enumerate(events(log)):
                for d in disks.values():
                    d.feed(op, ino, off, flags, path, data)
                talk.feed(op, ino, off, data)
                if cuts and i == cuts[0]:
                    cuts.pop(0)
                    number = len(jobs)
                    (folder / ("disk%d" % number)).mkdir()
                    disks[rng.choice(list(disks))].write(root, folder / ("disk%d" % number))
                    jobs.append(pool.submit(restart, folder, number, build, set(talk.acked) & set(ids), set(talk.sent), ids))
            for j in jobs:
                wrong += j.result()
        for w in wrong[:20]:
            print("FAILED: " + w)
        print("%d events, %d answered 250 in all" % (n, len(talk.acked)))
        print("power: %d passed, %d failed" % (len(jobs) - len({w.split(":")[0] for w in wrong}), len(wrong)))
        sys.exit(1 if wrong or not jobs else 0)


if __name__ == "__main__":
    main()
