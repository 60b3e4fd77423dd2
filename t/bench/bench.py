#!/usr/bin/python3
"""bench.py: what `make bench` runs; t/bench/README.md says what is measured. BENCH=short takes minutes, ONLY=w1,w2,...
selects workloads, REPEAT=n sets repetitions. Peers take turns seconds apart. It asserts no time, but ends with 1 if a count
is wrong: then the figures are worth nothing. Needs root (cgroups, a Postfix in its own folder)."""
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import accept, base, curves, depth, idle, limits, micro, overload, peer, plots, relay  # noqa: E402
from harness.deep import Deep                                                         # noqa: E402
from harness.report import Report                                                     # noqa: E402

# Cases whose peers, or points, take turns in each repetition.
TURNS = {"w1": accept, "w2": relay, "limits": limits, **{name: curves.Curve(name) for name in curves.CURVES}}
# The same, too long to be repeated.
ONCE = {"w3": idle, "w4": depth, "overload": overload}
TURNS_SECONDS = 150 if base.SHORT else 900      # so that all fits into 5 and 30 minutes, on a slow day too
KNOWN = list(TURNS) + list(ONCE) + ["journal", "policy", "deep"]


def take_turns(report, modules, repeat):
    for name, module in modules.items():
        report.show(name, module.SHOW)
    began = time.monotonic()
    for k in range(repeat):
        took = (time.monotonic() - began) / max(k, 1)
        if k and took * (k + 1) > TURNS_SECONDS:
            base.say("no time for more than %d repetitions of %.0f s" % (k, took))
            return
        for name, module in modules.items():
            for case, keys in module.cases():
                for p in module.PEERS:
                    row = module.measure(p, case, **keys)
                    report.add(name, case, p, row)
                    base.say("%d/%d %s %s %s: %s" % (k + 1, repeat, name, case, p, ", ".join(
                        form % row[m] + " " + title for m, title, form in module.SHOW if m in row)))


def draw(report):
    plots.pairs(report, "w1", "rate", "w1: messages accepted a second")
    plots.pairs(report, "w1", "cpu", "w1: CPU ms a message")
    plots.pairs(report, "w2", "rate", "w2: messages relayed a second")
    plots.pairs(report, "w2", "cpu", "w2: CPU ms a message")
    for name in list(curves.CURVES) + ["curve-depth"]:
        plots.curve(report, name)
    plots.journal(report)


def measure(report, chosen):
    repeat = int(os.environ.get("REPEAT", 1 if base.SHORT else 3))
    if "journal" in chosen:
        micro.journal(report)
    if "policy" in chosen:
        micro.policy(report)
    take_turns(report, {k: m for k, m in TURNS.items() if k in chosen}, repeat)
    take_turns(report, {k: m for k, m in ONCE.items() if k in chosen}, 1)
    if "deep" in chosen:
        Deep(report).run(repeat)


def main():
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))      # so that a peer is stopped and its queue emptied
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    only = [x for x in os.environ.get("ONLY", "").split(",") if x]
    if set(only) - set(KNOWN):
        sys.exit("bench: ONLY knows " + ",".join(KNOWN))
    subprocess.run([str(base.TOP / "t/tools/peers")], check=True)
    report = Report()
    peer.install(["postfix", "impetus"])
    try:
        measure(report, only or KNOWN)
    finally:
        draw(report)
        print(report.write(), end="")
    base.say("table.txt, samples.tsv and plots are in " + str(base.OUT))
    sys.exit(1 if base.wrong else 0)


if __name__ == "__main__":
    main()
