"""Attacks on the spool of a running daemon: a disk that is really full."""
import contextlib
import os
import subprocess
import tempfile
import time

import pytest
from lib.impetus import ROOT, wait_until
from lib.smtp import Client

DOWN = 'gateway = "127.0.0.1"\nremote_smtp_port = 1'
EXTRA = "retry_interval = 1\nsegment_size = 1048576\nspool_free_min = 16777216"


def may_mount():
    with tempfile.TemporaryDirectory() as d:
        if not ROOT or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", d], stderr=subprocess.DEVNULL).returncode:
            return False
        subprocess.run(["umount", d], check=True)
        return True


def one(m, n, size=100000):
    try:
        with Client(m.port, timeout=20) as c:
            c.greet()
            data = b"Subject: %d\r\n\r\n" % n + (b"y" * 70 + b"\r\n") * (size // 72)
            return c.mail("s%d@source.test" % n, ["r@example.com"], data)[0]
    except (OSError, AssertionError):
        return 0


def fill_by_mail(m):
    """Numbers of the messages that were taken before mail was refused for good."""
    good, refused, n = [], 0, 0
    while refused < 5 and n < 900:
        code = one(m, n, 400000 if n % 7 == 0 else 100000)
        assert code in (250, 452), code
        if code == 250:
            good.append(n)
            refused = 0
        else:
            refused += 1
            time.sleep(0.3)
        n += 1
    return good


def fill_by_others(spool):
    with contextlib.suppress(OSError), open(spool / "foreign", "wb", 0) as f:
        while f.write(bytes(65536)):
            pass


@contextlib.contextmanager
def small_disk(folder):
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_all_is_delivered(m, sink, good):
    sink.wait(len(good), 30)
    os.unlink(m.spool / "foreign")
    wait_until(lambda: one(m, 100000) == 250, what="mail is taken again")
    wait_until(lambda: m.json("ledger")["queued"] == 0, 30, 0.1, "an empty queue")
    assert m.json("ledger")["difference"] == 0
    got = [x.sender for x in sink.mails]
    assert {"s%d@source.test" % n for n in good} <= set(got) and len(got) == len(set(got))


# Where no disk may be mounted the unit tests of the disk and the keeper have to do.
@pytest.mark.parametrize("restarted", [False, True] if may_mount() else [])
def test_a_disk_that_is_really_full_is_lived_through(make, sink, tmp_path, restarted):
    with small_disk(tmp_path / "mta/spool"):
        m = make(routing=DOWN, extra=EXTRA)
        good = fill_by_mail(m)
        assert len(good) > 50
        fill_by_others(m.spool)
        assert os.statvfs(m.spool).f_bavail == 0
        if restarted:
            m.kill_all()
            m.start()
        young = [p for p, _ in m.children()]
        assert one(m, 99999) == 452
        # New processes come up, and write outcomes, without a free byte.
        m.rewrite(routing='gateway = "127.0.0.1"\nremote_smtp_port = %d' % sink.port)
        assert [p for p, _ in m.children()] == young
        assert "generation 2" in m.reload()
        check_all_is_delivered(m, sink, good)
        m.stop()
