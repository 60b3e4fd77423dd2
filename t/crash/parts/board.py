"""The fault board of a test build (shm/base/fault.h): rules that are set and taken away while the service runs."""
import mmap
import re
import struct

from lib.impetus import TOP

KILL, KILL_ALL, ERROR, SHORT = 1, 2, 3, 4
RULES, HEAD = 16, 16
RULE = struct.Struct("<40sIiIIIIII")                # point, action, error, at, onward, pid, seen, hits, unused
ACTION, SEEN = 40, 60


class Board:
    def __init__(self, path):
        self.path, size = path, HEAD + RULES * RULE.size
        path.write_bytes(bytes(size))
        path.chmod(0o666)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), size)

    def set(self, n, point, action, at=1, error=0, onward=False, pid=0):
        """Rule n; what it counted before is forgotten."""
        base = HEAD + n * RULE.size
        self.map[base + ACTION:base + ACTION + 4] = bytes(4)
        self.map[base:base + RULE.size] = RULE.pack(point.encode(), 0, error, at, onward, pid, 0, 0, 0)
        self.map[base + ACTION:base + ACTION + 4] = struct.pack("<I", action)
        self.map[0:4] = struct.pack("<I", RULES)

    def clear(self):
        for n in range(RULES):
            base = HEAD + n * RULE.size + ACTION
            self.map[base:base + 4] = bytes(4)
        self.map[0:4] = bytes(4)

    def counts(self, n):
        """(how often the point was passed, how often the rule hit)"""
        return struct.unpack_from("<II", self.map, HEAD + n * RULE.size + SEEN)


def sources():
    return "".join(p.read_text() for d in ("master", "worker", "policy", "spool", "shm") for p in sorted((TOP / d).rglob("*.c")))


def kill_points():
    """Every point of the product at which a process can be told to die."""
    return sorted(set(re.findall(r'fault_point\("([a-z_.]+)"\)', sources())))


def error_points():
    """Every call of the spool and of LMDB that can be told to fail."""
    text = sources()
    names = set(re.findall(r'fault_(?:error|fails|or)\("([a-z_.]+)"', text)) | set(
        "lmdb." + n for n in re.findall(r'CALL\("([a-z_]+)"', text))
    return sorted(names - {"mem.alloc", "log.write", "lmdb."})
