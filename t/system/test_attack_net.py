"""Hostile peers: what a next hop, a control client or a stranger may send must harm nobody else."""
import socket
import time

from lib.smtp import Client, Sink


def test_a_hop_that_breaks_after_the_dot_gets_it_by_schedule(make):
    """In doubt is not due at once: a hop that always breaks there would be sent the message every second."""
    sink = Sink(answer=lambda stage, text, h: "drop" if stage == "dot" else None)
    try:
        m = make(sink.port)
        with Client(m.port) as c:
            c.greet()
            assert c.mail("s@source.test", ["doubt@example.com"], b"Subject: x\r\n\r\nx\r\n")[0] == 250
        sink.wait(1)
        time.sleep(4)                                       # the schedule says 60 s; a few looks at the index go by
        assert len(sink.mails) == 1
        assert "doubt@example.com" in m.ctl("indoubt", "list")
    finally:
        sink.close()


def test_idle_control_sessions_lock_nobody_out(make, sink):
    m = make(sink.port)
    idle = []
    try:
        for _ in range(300):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(5)
            s.connect(str(m.control))
            s.sendall(b"summ")
            idle.append(s)
        assert m.ctl("version")
    finally:
        for s in idle:
            s.close()
