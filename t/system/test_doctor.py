"""doctor: well when all is well; each finding made for real, with the exit status that monitoring reads."""
import json
import os
import re
import signal
import socket
import subprocess
import time

from lib.impetus import wait_until
from lib.smtp import Client

CHECKS = ["spool_space", "reserve", "spool_folders", "disk", "index", "index_file", "keeper", "last_commit", "journal_tail", "journal_files",
          "journal_damage", "mail", "processes", "restarts", "descriptors", "sessions_in", "sessions_out", "dns", "logs",
          "clock"]


class Dns:
    """Answers every question: there is no such name."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        import threading
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                q, who = self.sock.recvfrom(2048)
            except OSError:
                return
            if len(q) > 12:
                self.sock.sendto(q[:2] + b"\x81\x83" + q[4:6] + b"\0\0\0\0\0\0" + q[12:12 + q[12:].index(b"\0") + 5], who)

    def close(self):
        self.sock.close()


def well(make, tmp_path, port, **kw):
    """A daemon whose resolver is at that port; limits that this machine's disk does not decide."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1:%d\noptions timeout:1 attempts:1\n" % port)
    extra = 'resolv_conf = "%s"\nspool_free_min = 1048576\n' % conf + kw.pop("extra", "")
    m = make(1, extra=extra, **kw)
    wait_until(lambda: m.json("summary")["processes"] and all(p["state"] == "serving" for p in m.json("summary")["processes"]),
               what="all to serve")
    return m


def doctor(m, *words):
    r = subprocess.run([str(m.build / "impetusctl"), "-s", str(m.control), *words, "doctor"], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=60)
    return r.returncode, r.stdout, r.stderr


def grades(m):
    status, out, _ = doctor(m, "--json")
    got = json.loads(out)
    assert status == ["ok", "warning", "critical"].index(got["status"])
    return status, {c["check"]: c for c in got["checks"]}


def test_all_is_well(make, tmp_path):
    dns = Dns()
    m = well(make, tmp_path, dns.port)
    # Each process makes its own within a second of its start.
    wait_until(lambda: len(list((m.spool / "journal").glob("reserve.*"))) == 3, what="the reserve")
    status, checks = grades(m)
    assert list(checks) == CHECKS
    bad = [c for c in checks.values() if c["status"] != "ok"]
    # The disk that this runs on may be slow while others use it: that is a finding, not a fault of the check.
    assert {c["check"] for c in bad} <= {"disk", "keeper"}, bad
    assert "3 of 3 processes hold 8.0 MiB" in checks["reserve"]["figure"]
    assert "0 bytes written since" in checks["last_commit"]["figure"]
    assert "the resolver answers" in checks["dns"]["figure"] and "2 of 2 workers" in checks["processes"]["figure"]
    assert all(c["figure"] for c in checks.values()) and all(c["advice"] for c in bad)
    text = doctor(m)[1].splitlines()
    assert text[-1].split()[0] == "status" and len(text) == len(CHECKS) + 2
    dns.close()


def test_a_resolver_that_says_nothing(make, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        m = well(make, tmp_path, silent.getsockname()[1])
        status, checks = grades(m)
        assert status == 2 and checks["dns"]["status"] == "critical" and "resolv_conf" in checks["dns"]["advice"]


def test_a_full_disk_a_lost_log_and_a_dead_worker(make, tmp_path):
    dns = Dns()
    m = well(make, tmp_path, dns.port)
    m.rewrite(extra=m.values["extra"].replace("spool_free_min = 1048576", "spool_free_min = %d" % (1 << 50)))
    m.reload()
    # Each process that is still to come, a successor too, is given a log that is there again.
    wait_until(lambda: all("generation 2" in title for _, title in m.children()), what="the reload's end")
    (m.logs / "mainlog").unlink()
    logs = wait_until(lambda: (lambda c: c["logs"]["status"] == "warning" and c["logs"])(grades(m)[1]), what="the lost log")
    assert "mainlog: its file was removed" in logs["figure"]
    pid = m.children("worker")[0][0]
    os.kill(pid, signal.SIGKILL)
    checks = wait_until(lambda: (lambda c: c["restarts"]["status"] == "warning" and c)(grades(m)[1]), what="the death to be seen")
    assert checks["spool_space"]["status"] == "critical" and "452" in checks["spool_space"]["advice"]
    assert "worker" in checks["restarts"]["figure"] and "signal 9" in checks["restarts"]["figure"]
    assert doctor(m)[0] == 2
    m.ctl("reopen", "logs")
    wait_until(lambda: grades(m)[1]["logs"]["status"] == "ok", what="the log to be well")
    dns.close()


def test_a_keeper_that_does_not_answer(make, tmp_path):
    dns = Dns()
    m = well(make, tmp_path, dns.port)
    pid = m.children("keeper")[0][0]
    os.kill(pid, signal.SIGSTOP)
    status, checks = grades(m)
    os.kill(pid, signal.SIGCONT)
    assert status == 2 and checks["keeper"]["status"] == "critical" and "no commit within" in checks["keeper"]["figure"]
    dns.close()


def test_a_keeper_that_is_handed_over(make, tmp_path):
    """After a reload there is no keeper for a moment: nothing is amiss."""
    dns = Dns()
    m = well(make, tmp_path, dns.port)
    pid = m.children("keeper")[0][0]
    os.kill(pid, signal.SIGSTOP)
    m.reload()
    # Told to end, and asked to commit: its end is the answer, and there is none for a moment.
    p = subprocess.Popen([str(m.build / "impetusctl"), "-s", str(m.control), "--json", "doctor"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    out = p.communicate(timeout=60)[0]
    checks = {c["check"]: c for c in json.loads(out)["checks"]}
    for name in ("keeper", "processes", "last_commit", "dns"):
        assert checks[name]["status"] == "ok", checks[name]
    # The next one may be there already, on a machine that is slow to ask.
    assert "takes over" in checks["keeper"]["figure"] or "committed in" in checks["keeper"]["figure"], checks["keeper"]
    assert "a new generation takes over" in checks["processes"]["figure"] and "end reached" not in out
    assert {c["check"] for c in checks.values() if c["status"] == "critical"} <= {"disk"}, checks
    dns.close()


def test_mail_that_waits_for_a_commit(make, tmp_path):
    """The journals' own marks say so, not the keeper that hangs."""
    dns = Dns()
    m = well(make, tmp_path, dns.port)
    pid = m.children("keeper")[0][0]
    m.json("ledger")        # committed now
    os.kill(pid, signal.SIGSTOP)
    with Client(m.port) as c:
        c.greet()
        assert c.mail("s@source.test", ["r@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
    status, checks = grades(m)
    os.kill(pid, signal.SIGCONT)
    late = checks["last_commit"]
    assert status == 2 and late["status"] == "critical" and not re.search(r"\b0 bytes written since", late["figure"]), late
    assert "see keeper" in late["advice"]
    wait_until(lambda: grades(m)[1]["last_commit"]["status"] == "ok", what="the keeper's commit")
    dns.close()


def test_no_reserve(make, tmp_path):
    """Mail is still taken: a warning, for what a full disk would do."""
    dns = Dns()
    m = well(make, tmp_path, dns.port, env=dict(IMPETUS_FAULT="disk.reserve=EIO*"))
    status, checks = grades(m)
    assert status >= 1 and checks["reserve"]["status"] == "warning", checks["reserve"]
    assert "0 of 3 processes" in checks["reserve"]["figure"] and "make room" in checks["reserve"]["advice"]
    assert {c["check"] for c in checks.values() if c["status"] != "ok"} <= {"reserve", "disk", "keeper"}
    dns.close()


def test_mail_that_is_held_and_sessions_near_their_bound(make, tmp_path):
    dns = Dns()
    m = well(make, tmp_path, dns.port, listener="service_sessions = 1", script="""
        local mod = {}
        function mod:validate_set_binding(msg) msg:delay_until(msys.core.get_now_ts() + 3600) return msys.core.VALIDATE_CONT end
        msys.registerModule("site", mod)""")
    with Client(m.port) as c:
        c.greet()
        assert c.mail("s@source.test", ["a@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
        checks = grades(m)[1]
        assert checks["sessions_in"]["status"] == "critical" and "service_sessions is 1" in checks["sessions_in"]["figure"]
        assert "1 queued" in checks["mail"]["figure"] and "ledger difference 0" in checks["mail"]["figure"]
    dns.close()


def test_nobody_to_ask(make, tmp_path):
    m = make(1)
    m.stop()
    status, out, err = doctor(m)
    assert status == 3 and out == "" and "is impetusd running?" in err
    # A console that hangs up in the middle is no answer either.
    with socket.socket(socket.AF_UNIX) as s:
        path = tmp_path / "deaf"
        s.bind(str(path))
        s.listen(1)
        p = subprocess.Popen([str(m.build / "impetusctl"), "-s", str(path), "doctor"], stderr=subprocess.PIPE, text=True)
        s.accept()[0].close()
        assert p.wait(20) == 3 and "no answer" in p.communicate()[1]
