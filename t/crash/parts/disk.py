"""What is on a disk when the power goes: a model that is fed the recorded events.

Two kinds: "strict" forgets a new file's name until its directory was synced, "ext4" keeps it with the file's own sync. And of
what was not synced: "dropped": nothing is left; "torn": a part of each file's writes in their order, the last one cut at a
sector; "reordered": any of the 512-byte sectors, each for itself, and any part of the directory's changes in their order."""
import os

SECTOR = 512
DSYNC = 1
LEFT_OUT = ("lock.mdb", "keeper.lock")
FATES = ("dropped", "torn", "reordered")


def put(to, off, data):
    if len(to) < off:
        to.extend(bytes(off - len(to)))
    to[off:off + len(data)] = data


def resize(to, size):
    del to[size:]
    to.extend(bytes(size - len(to)))


class File:
    def __init__(self, name):
        self.durable, self.pending, self.name, self.born = bytearray(), [], name, False

    def apply(self, upto):
        for off, data in self.pending[:upto]:
            if data is None:                         # truncated, or extended by zeroes
                resize(self.durable, off)
            else:
                put(self.durable, off, data)
        del self.pending[:upto]

    def after(self, fate, rng):
        """Its content when the power is gone."""
        if fate == "dropped" or not self.pending:
            return self.durable
        out = bytearray(self.durable)
        if fate == "torn":
            whole = rng.randint(0, len(self.pending))
            for off, data in self.pending[:whole]:
                resize(out, off) if data is None else put(out, off, data)
            if whole < len(self.pending) and self.pending[whole][1] is not None:
                off, data = self.pending[whole]
                put(out, off, data[:max(0, rng.randrange(off, off + len(data) + 1) // SECTOR * SECTOR - off)])
            return out
        share = rng.choice((0.1, 0.5, 0.9))
        for off, data in self.pending:
            if data is None:
                if off > len(out) and rng.random() < share:
                    resize(out, off)
                continue
            at = off
            while at < off + len(data):
                end = min(off + len(data), at // SECTOR * SECTOR + SECTOR)
                if rng.random() < share:
                    put(out, at, data[at - off:end - off])
                at = end
        return out


class Disk:
    def __init__(self, kind):
        self.kind, self.files, self.names, self.durable, self.dirs, self.began = kind, {}, {}, {}, {}, {}

    def dir_op(self, path, op):
        self.dirs.setdefault(os.path.dirname(path), []).append(op)

    @staticmethod
    def dir_apply(names, ops):
        for op in ops:
            if op[0] == "add":
                names[op[1]] = op[2]
            elif op[0] == "del":
                names.pop(op[1], None)
            else:
                names.pop(op[1], None)
                names[op[2]] = op[3]

    def feed(self, op, ino, off, flags, name, data):
        f = self.files.get(ino)
        if op == "C":
            self.files[ino] = self.names[name] = File(name)     # the number may have been another's
            self.dir_op(name, ("add", name, self.files[ino]))
        elif op == "W" and f:
            if flags & DSYNC:
                put(f.durable, off, data)
            else:
                f.pending.append((off, data))
        elif op == "T" and f:
            f.pending.append((off, None))
        elif op == "F" and f and not flags & 1:
            size = max([len(f.durable)] + [o + len(d or b"") for o, d in f.pending])
            if off > size:
                f.pending.append((off, None))
        elif op == "R":
            self.rename(name, bytes(data).decode())
        elif op == "U":
            self.names.pop(name, None)
            self.dir_op(name, ("del", name))
        elif op == "B":
            self.began[(off, ino)] = len(self.dirs.get(name, ())) if name else len(f.pending) if f else 0
        elif op == "E":
            self.synced(self.began.pop((off, ino), 0), f, name)

    def rename(self, old, new):
        if old in self.names:
            moved = self.names.pop(old)
            self.names[new] = moved
            self.dir_op(new, ("ren", old, new, moved))

    def synced(self, upto, f, folder):
        if folder:
            ops = self.dirs.get(folder, [])
            self.dir_apply(self.durable, ops[:upto])
            del ops[:upto]
        elif f:
            f.apply(min(upto, len(f.pending)))
            if self.kind == "ext4" and not f.born:
                f.born = True
                ops = self.dirs.get(os.path.dirname(f.name), [])
                for o in [o for o in ops if o[0] == "add" and o[2] is f]:
                    ops.remove(o)
                    self.dir_apply(self.durable, [o])

    def write(self, root, to, fate, rng):
        names = dict(self.durable)
        if fate != "dropped":
            for ops in self.dirs.values():
                self.dir_apply(names, ops[:rng.randint(0, len(ops))])
        for path, f in sorted(names.items(), key=lambda n: n[0]):
            if os.path.basename(path) in LEFT_OUT:
                continue
            target = to / os.path.relpath(path, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            sparse(target, f.after(fate, rng))


def sparse(path, content, block=65536):
    """Zeroes cost nothing."""
    nothing = bytes(block)
    with open(path, "wb") as f:
        for at in range(0, len(content), block):
            part = content[at:at + block]
            if part != nothing[:len(part)]:
                f.seek(at)
                f.write(part)
        f.truncate(len(content))
