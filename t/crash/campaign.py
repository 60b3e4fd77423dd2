#!/usr/bin/python3
"""campaign.py [--short] [--seed S] [--only PART,...] [--jobs N]: the whole of t/crash, one part after another, with one seed:
1,000 kills, every fault, 2,000 power cuts, damaged bytes. Prints the seed; the exit code says whether all of it was clean."""
import pathlib
import subprocess
import sys

from parts import pool

PARTS = ("kills", "faults", "powercut", "damage")


def main():
    a, bad = pool.options(only=str), []
    short = ["--short"] if a.short else []
    print("seed %d" % a.seed, flush=True)
    for part in (a.only or ",".join(PARTS)).split(","):
        script = str(pathlib.Path(__file__).with_name(part + ".py"))
        if subprocess.run([sys.executable, script, "--seed", str(a.seed), "--jobs", str(a.jobs)] + short).returncode:
            bad.append(part)
    print("campaign: %s" % ("not clean: " + ", ".join(bad) if bad else "clean"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
