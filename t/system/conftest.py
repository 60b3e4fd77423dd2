import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from lib.impetus import Impetus          # noqa: E402
from lib.smtp import Sink                # noqa: E402


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(tmp_path):
    """make(sink_port=..., ...) gives a running daemon; all of them are asked the closing questions."""
    running = []

    def make_one(*args, start=True, name="mta", **kw):
        m = Impetus(tmp_path / name, *args, **kw)
        running.append(m)
        return m.start() if start else m
    yield make_one
    for m in running:
        m.finish()
