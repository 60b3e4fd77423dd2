"""Runs the real daemon for a test: own folder, free ports, and at the end the questions every test asks."""
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("IMPETUS_BUILD", TOP / "build/test"))
ROOT = os.geteuid() == 0

CONFIG = """
hostname = "mx.example.test"
spoolbase = "{spool}"
relay_hosts = ( "127.0.0.0/8" )
relay_domains = ( "example.com" "*.example.com" )
{routing}
retry_interval = 60
Control_Listener {{ Listen "{control}" {{ }} }}
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ Peer "127.0.0.0/8" {{ context = [ trusted = "yes" ] }} }} {listener} }}
ec_logger "ec_logger" {{ mainlog = "{logs}/mainlog" rejectlog = "{logs}/rejectlog" paniclog = "{logs}/paniclog" }}
{scriptlet}
{security}
{extra}
"""
# What may stand in a paniclog without being a fault.
QUIET = re.compile(r"^\d+:(master|keeper|worker|console|scriptlet): ")
ALARM = re.compile(r"panic|broken invariant|AddressSanitizer|LeakSanitizer|runtime error|UndefinedBehavior|lost nothing: no")


def free_port():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(cond, seconds=20, step=0.02, what="it"):
    end = time.monotonic() + seconds
    while True:
        got = cond()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited %g s in vain for %s" % (seconds, what))
        time.sleep(step)


def alive(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Impetus:
    def __init__(self, folder, sink_port=None, script=None, extra="", routing=None, listener="", workers=2, env=None,
                 config=None, build=None, expect_panic=False, as_user=None, files=None):
        self.dir, self.port = pathlib.Path(folder), free_port()
        self.build = pathlib.Path(build or BUILD)
        self.spool, self.logs, self.control = self.dir / "spool", self.dir / "log", self.dir / "control"
        self.env, self.proc, self.expect_panic = dict(os.environ, **(env or {})), None, expect_panic
        self.files = files              # its limit of descriptors
        # as_user: the daemon itself is started without root's rights, as an ordinary user would.
        self.as_user = as_user if ROOT else None
        for d in (self.dir, self.spool, self.logs):
            d.mkdir(parents=True, exist_ok=True)
        if ROOT:
            for d in (self.dir, self.spool, self.logs) if self.as_user else (self.spool,):
                shutil.chown(d, "nobody")
            for d in [self.dir, *self.dir.parents]:     # pytest's folders are private: the children must get through
                if d == pathlib.Path("/"):
                    break
                d.chmod(d.stat().st_mode | 0o111)
        if routing is None:
            routing = 'gateway = "127.0.0.1"\nremote_smtp_port = %d' % sink_port if sink_port else ""
        if script:
            (self.dir / "site.lua").write_text(script)
        self.conf = self.dir / "impetus.conf"
        self.values = dict(
            spool=self.spool, logs=self.logs, control=self.control, port=self.port, routing=routing, listener=listener,
            scriptlet='scriptlet "scriptlet" { script "site" { source = "site" } }' if script else "",
            security='security { user = "nobody" chroot = "%s" }' % self.spool if ROOT and not self.as_user else "",
            extra="workers = %d\n%s" % (workers, extra))
        self.conf.write_text((config or CONFIG).format(**self.values))
        self.start_text = b""

    def rewrite(self, **changes):
        self.values.update(changes)
        self.conf.write_text(CONFIG.format(**self.values))

    def start(self, wait=True, **env):
        self.out = open(self.dir / "stderr", "ab")
        self.proc = subprocess.Popen([str(self.build / "impetusd"), "-c", str(self.conf), "-f"], cwd=self.dir,
                                     env=dict(self.env, **env), stdin=subprocess.DEVNULL, stdout=self.out,
                                     stderr=self.out, start_new_session=True,
                                     preexec_fn=self.prepare if self.as_user or self.files else None)
        if wait:
            wait_until(self.answers, 20, what="the banner; stderr: " + self.stderr()[-2000:])
        return self

    def prepare(self):
        if self.files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))
        if self.as_user:
            run_as(self.as_user)

    def answers(self):
        if self.proc.poll() is not None:
            raise AssertionError("impetusd ended with %s: %s" % (self.proc.returncode, self.stderr()[-2000:]))
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.settimeout(5)
                return s.recv(100).startswith(b"220") and self.control.exists()
        except OSError:
            return False

    def stderr(self):
        p = self.dir / "stderr"
        return p.read_text(errors="replace") if p.exists() else ""

    def log(self, name):
        p = self.logs / name
        return p.read_text(errors="replace").splitlines() if p.exists() else []

    def children(self, role=None):
        """[(pid, title)] of the master's children."""
        out = []
        for p in pathlib.Path("/proc").iterdir():
            if not p.name.isdigit():
                continue
            try:
                if int((p / "stat").read_text().rsplit(")", 1)[1].split()[1]) != self.proc.pid:
                    continue
                title = (p / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
            except (OSError, ValueError):
                continue
            if role is None or (" " + role + " ") in (" " + title.replace(":", " ") + " "):
                out.append((int(p.name), title))
        return sorted(out)

    def ctl(self, *args, check=True, stdin=None):
        r = subprocess.run([str(self.build / "impetusctl"), "-s", str(self.control), *args], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=60, input=stdin)
        assert not check or r.returncode == 0, (args, r.returncode, r.stdout, r.stderr)
        return r.stdout

    def json(self, *args):
        return json.loads(self.ctl("--json", *args))

    def serves(self):
        """The master says so when all its children do: the first worker's banner is out before that."""
        return b"master generation" in pathlib.Path("/proc/%d/cmdline" % self.proc.pid).read_bytes()

    def reload(self, check=True):
        """A reload is refused while the start is under way."""
        wait_until(self.serves, what="a master that serves; stderr: " + self.stderr()[-2000:])
        return self.ctl("config", "reload", check=check)

    def kill_all(self):
        """Everything at once, as a power switch does."""
        pids = [p for p, _ in self.children()]
        os.kill(self.proc.pid, signal.SIGSTOP)
        for p in [self.proc.pid] + pids + [p for p, _ in self.children()]:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.proc.wait()
        wait_until(lambda: not any(alive(p) for p in pids), 10, what="the end of the children")

    def stop(self, sig=signal.SIGTERM, timeout=30):
        if self.proc is None:
            return None
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            try:
                self.proc.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise AssertionError("impetusd did not stop in %d s: %s" % (timeout, self.stderr()[-2000:]))
        return self.proc.returncode

    def finish(self):
        """What every test asks at its end."""
        try:
            self.stop()
        finally:
            text = "\n".join(self.log("paniclog")) + self.stderr()
            bad = [line for line in text.splitlines() if ALARM.search(line)]
            assert self.expect_panic or not bad, "alarm in the log: " + "\n".join(bad[:20])

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        if exc[0] is None:
            self.finish()
        else:
            try:
                self.stop(timeout=10)
            except AssertionError:
                pass


def run_as(user):
    """Gives root away."""
    pw = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(pw.pw_gid)
    os.setuid(pw.pw_uid)
