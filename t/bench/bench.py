#!/usr/bin/python3
"""bench.py: what `make bench` runs; t/bench/README.md says what is measured. BENCH=short takes minutes, ONLY=w1,w2,...
selects workloads, REPEAT=n sets repetitions. Peers take turns seconds apart. It asserts no time, but ends with 1 if a count
is wrong: then the figures are worth nothing. Needs root (cgroups, a Postfix in its own folder)."""
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import accept, base, peer, relay      # noqa: E402
from harness.report import Report                  # noqa: E402

# Name -> module: CASES of pairs that take turns in each repetition.
PAIRS = {"w1": accept, "w2": relay}


def run_pairs(report, names):
    repeat = int(os.environ.get("REPEAT", 1 if base.SHORT else 3))
    for name in names:
        report.show(name, PAIRS[name].SHOW)
    for k in range(repeat):
        for name in names:
            for case, keys in PAIRS[name].cases():
                for p in PAIRS[name].PEERS:
                    row = PAIRS[name].measure(p, case, **keys)
                    report.add(name, case, p, row)
                    base.say("%d/%d %s %s %s: %s" % (k + 1, repeat, name, case, p, "  ".join(
                        "%s %s" % (form % row[m], title) for m, title, form in PAIRS[name].SHOW if m in row)))


def main():
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))      # so that a peer is stopped and its queue emptied
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    only = [x for x in os.environ.get("ONLY", "").split(",") if x]
    known = list(PAIRS)
    if set(only) - set(known):
        sys.exit("bench: ONLY knows " + ",".join(known))
    chosen = [x for x in known if not only or x in only]
    subprocess.run([str(base.TOP / "t/tools/peers")], check=True)
    report = Report()
    peer.install(["postfix", "impetus"])
    try:
        run_pairs(report, [x for x in chosen if x in PAIRS])
    finally:
        print(report.write(), end="")
    sys.exit(1 if base.wrong else 0)


if __name__ == "__main__":
    main()
