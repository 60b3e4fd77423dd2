"""Where things are, how long a run may be, and the list of what went wrong."""
import os
import pathlib
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
PEERS = TOP / "t/bench/peer"
BUILD = TOP / "build"
OUT = BUILD / "bench"                       # table, samples, plots; the peers' places, on the disk that is measured
PORT, SINK_PORT = 2525, 2626
SHORT = os.environ.get("BENCH") == "short"

wrong = []                                  # counts that do not agree: the figures beside them mean nothing


def complain(text):
    wrong.append(text)
    print("\n*** WRONG: %s\n" % text, file=sys.stderr, flush=True)


def say(text):
    print("%7.1f  %s" % (time.monotonic() - BEGAN, text), file=sys.stderr, flush=True)


def wait_until(cond, seconds, step=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cond():
            return True
        time.sleep(step)
    return bool(cond())


BEGAN = time.monotonic()
