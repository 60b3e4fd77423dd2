"""A recording of everything that a running impetusd wrote, synced and said (t/crash/record.c), and what was said by then."""
import mmap
import pathlib
import re
import struct
import subprocess

from lib.impetus import Impetus, wait_until
from lib.smtp import ID

from .mail import EXTRA, Load, Peer, rcpts

HERE = pathlib.Path(__file__).resolve().parents[1]
HEAD = struct.Struct("<QQQQQII")
END = b"\r\n.\r\n"
RCPT = re.compile(rb"RCPT TO:<([^>]*)>")


def events(path):
    """(op, ino, off, flags, name, data), in the order in which they were recorded."""
    with open(path, "rb") as f:
        used, = struct.unpack("<Q", f.read(8))
        log = memoryview(mmap.mmap(f.fileno(), used + 8, access=mmap.ACCESS_READ))[8:]
    at = 0
    while at + HEAD.size <= len(log):
        length, ino, off, name_len, data_len, op, flags = HEAD.unpack_from(log, at)
        if length == 0:
            break                                    # a process died while it wrote this one
        body = at + HEAD.size
        yield (chr(op), ino, off, flags, bytes(log[body:body + name_len]).decode(),
               log[body + name_len:body + name_len + data_len])
        at += length


class Talk:
    """What clients were told, and what the next hop was given, until now."""

    def __init__(self, ids):
        self.ids, self.acked, self.given, self.open = ids, set(), set(), {}

    def feed(self, op, ino, off, data):
        if op == "A":
            for i in ID.findall(bytes(data).decode("latin-1")):
                if i in self.ids:
                    self.acked.update(rcpts(self.ids[i]))
        elif op == "S":
            buf = self.open.get((ino, off), b"") + bytes(data)
            while END in buf:
                mail, buf = buf.split(END, 1)
                to = RCPT.findall(mail.rsplit(b"DATA\r\n", 1)[0])
                if to:
                    self.given.add(to[-1].decode())
            self.open[(ino, off)] = buf if len(buf) < 1 << 21 else buf[:4096] + buf[-8:]


def preload(recorder, build):
    """A sanitizer's runtime wants to be the first."""
    if not str(build).endswith("asan"):
        return str(recorder)
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return "%s %s" % (runtime, recorder)


def record(folder, messages, harm=None):
    """Runs the load; gives (recording, spool folder, {id: n}, everything that was sent)."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", str(folder / "record.so"),
                    str(HERE / "record.c"), "-ldl"], check=True)
    peer = Peer(0.002)
    mta = Impetus(folder / "mta", peer.port, workers=2, as_user="nobody", extra=EXTRA)
    mta.env.update(LD_PRELOAD=preload(folder / "record.so", mta.build), RECORD_LOG=str(folder / "mta/log.bin"),
                   RECORD_ROOT=str(folder / "mta/spool"), RECORD_SINK=str(peer.port))
    mta.start()
    load = Load(mta.port, clients=6, pause=0.002, last=messages)
    if harm is not None:
        harm(mta, load)
    wait_until(lambda: load.next >= messages, 300, 0.05, "the load's end")
    load.hold()
    peer.let_go = True
    wait_until(lambda: mta.json("ledger")["queued"] == 0, 90, 0.1, "an empty queue")
    load.end()
    mta.finish()
    peer.close()
    ids = {i: n for n, text in load.ids.items() for i in ID.findall(text)}
    return folder / "mta/log.bin", folder / "mta/spool", ids, load.sent
