"""Real peers, run from build/peers/root on free ports: nsd, Postfix, and Postfix's smtp-source; and a tap on the wire."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading

from .impetus import TOP, free_port, wait_until

ROOT = TOP / "build/peers/root"


class Nsd:
    """Serves one zone text per name."""

    def __init__(self, zones):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "tmp", prefix="nsd-"))
        self.port = free_port()
        inside = "/" + str(self.dir.relative_to(ROOT))
        conf = ['server:', '  ip-address: 127.0.0.1@%d' % self.port, '  username: ""', '  chroot: ""', '  zonesdir: "%s"' % inside,
                '  pidfile: "%s/pid"' % inside, '  xfrdfile: "%s/xfrd"' % inside, '  zonelistfile: "%s/list"' % inside,
                '  database: ""', '  logfile: "%s/log"' % inside, '  server-count: 1', 'remote-control:', '  control-enable: no']
        for name, text in zones.items():
            (self.dir / name).write_text("$ORIGIN %s.\n$TTL 60\n@ SOA ns.%s. root.%s. 1 60 60 60 60\n@ NS ns.%s.\nns A 127.0.0.1\n" %
                                         (name, name, name, name) + text)
            conf += ["zone:", '  name: "%s"' % name, '  zonefile: "%s"' % name]
        (self.dir / "conf").write_text("\n".join(conf) + "\n")
        self.proc = subprocess.Popen(["chroot", str(ROOT), "/usr/sbin/nsd", "-d", "-c", inside + "/conf"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers, 10, 0.05, "nsd")

    def answers(self):
        assert self.proc.poll() is None, (self.dir / "log").read_text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.3)
            s.sendto(b"\0\1\0\0\0\1\0\0\0\0\0\0\4test\0\0\1\0\1", ("127.0.0.1", self.port))
            try:
                return bool(s.recv(512))
            except OSError:
                return False

    def close(self):
        self.proc.terminate()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Postfix:
    """Relays everything from loopback to one host and port."""

    def __init__(self, to_port):
        self.port = free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "var/spool", prefix="pf-"))
        self.dir.chmod(0o755)
        self.conf = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "etc", prefix="pf-"))
        self.conf.chmod(0o755)
        inside, conf = "/" + str(self.dir.relative_to(ROOT)), "/" + str(self.conf.relative_to(ROOT))
        (self.dir / "queue").mkdir()
        (self.dir / "data").mkdir()
        subprocess.run(["chroot", str(ROOT), "chown", "postfix", inside + "/data"], check=True)
        (self.conf / "main.cf").write_text("""compatibility_level = 3.6
queue_directory = %s/queue
data_directory = %s/data
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [127.0.0.1]:%d
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
message_size_limit = 60000000
maillog_file = %s/log
maillog_file_prefixes = /var
disable_mime_output_conversion = yes
""" % (inside, inside, to_port, inside))
        master = (ROOT / "etc/postfix/master.cf").read_text()
        master = re.sub(r"^smtp(\s+)inet", "127.0.0.1:%d\\1inet" % self.port, master, flags=re.M)
        master = re.sub(r"^(\S+\s+\S+\s+\S\s+\S\s+)y", r"\1n", master, flags=re.M)
        (self.conf / "master.cf").write_text(master)
        shutil.copy(ROOT / "etc/postfix/postfix-files", self.conf / "postfix-files") if \
            (ROOT / "etc/postfix/postfix-files").exists() else None
        self.cmd = ["chroot", str(ROOT), "/usr/sbin/postfix", "-c", conf]
        r = subprocess.run(self.cmd + ["start"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert r.returncode == 0, r.stdout
        wait_until(lambda: self.answers(), 20, 0.05, "postfix: " + r.stdout)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as s:
                return s.recv(100).startswith(b"220")
        except OSError:
            return False

    def close(self):
        subprocess.run(self.cmd + ["stop"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.conf, ignore_errors=True)


class SmtpSink:
    """Postfix's smtp-sink, which writes each message to a file (with LF line ends)."""

    def __init__(self):
        self.port = free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=ROOT / "tmp", prefix="sink-"))
        self.dir.chmod(0o777)
        self.proc = subprocess.Popen(["chroot", str(ROOT), "/usr/sbin/smtp-sink", "-u", "nobody", "-R", "/" + str(self.dir.relative_to(ROOT)),
                                      "-d", "m.", "127.0.0.1:%d" % self.port, "100"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers, 10, 0.05, "smtp-sink")

    answers = Postfix.answers

    def messages(self):
        """[(sender, [rcpt], data)], whole ones."""
        out = []
        for f in self.dir.glob("m.*"):
            head, _, rest = f.read_bytes().partition(b"Received: from ")
            data = rest.split(b"\n", 3)[3:]
            if data and data[0].endswith(b"\n\n"):
                out.append((re.search(rb"X-Mail-Args: <(.*?)>", head)[1].decode(),
                            [r.decode() for r in re.findall(rb"X-Rcpt-Args: <(.*?)>", head)], data[0][:-1]))
        return out

    def close(self):
        self.proc.terminate()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def smtp_source(port, n, sessions=10, size=2000):
    return subprocess.run(["chroot", str(ROOT), "/usr/sbin/smtp-source", "-s", str(sessions), "-m", str(n), "-l", str(size), "-f",
                           "s@source.test", "-t", "r@example.com", "-N", "127.0.0.1:%d" % port], timeout=120).returncode


class Tap:
    """Passes connections on and keeps what clients said; messages() are the mails that went through, as on the wire."""

    def __init__(self, to_port):
        self.to, self.said, self.lock = to_port, [], threading.Lock()
        self.server = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            server, keep = socket.create_connection(("127.0.0.1", self.to)), bytearray()
            with self.lock:
                self.said.append(keep)
            threading.Thread(target=self.pump, args=(client, server, keep), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, None), daemon=True).start()

    @staticmethod
    def pump(a, b, keep):
        try:
            while True:
                data = a.recv(1 << 16)
                if not data:
                    b.shutdown(socket.SHUT_WR)
                    return
                if keep is not None:
                    keep += data
                b.sendall(data)
        except OSError:
            pass

    def messages(self):
        """[(sender, [rcpt], data)] with transparency undone."""
        out = []
        for keep in self.said:
            rest, sender, rcpts = bytes(keep), None, []
            while b"\r\n" in rest:
                line, rest = rest.split(b"\r\n", 1)
                verb = line[:4].upper()
                if verb == b"MAIL":
                    sender, rcpts = re.search(rb"<(.*?)>", line)[1].decode(), []
                elif verb == b"RCPT":
                    rcpts.append(re.search(rb"<(.*?)>", line)[1].decode())
                elif verb == b"DATA":
                    body, rest = (b"\r\n" + rest).split(b"\r\n.\r\n", 1)
                    out.append((sender, rcpts, (body[2:] + b"\r\n").replace(b"\r\n..", b"\r\n.").removeprefix(b".")
                                if body else b""))
        return out

    def close(self):
        self.server.close()


def without_root():
    return os.geteuid() != 0 or not ROOT.exists()
