#!/usr/bin/python3
"""campaign.py [--seed S] [--only PART,...] [--jobs N]: the whole of t/crash, one part after another, with one seed: 1,000
kills, every fault, 2,000 power cuts, damaged bytes. Prints the seed; the exit code says whether all of it was clean."""
import argparse
import pathlib
import subprocess
import sys

from parts import pool

PARTS = ("kills", "faults", "powercut", "damage")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int)
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--jobs", type=int, default=pool.default_jobs())
    a = p.parse_args()
    seed, bad = pool.seed_of(a.seed), []
    print("seed %d" % seed, flush=True)
    for part in a.only.split(","):
        script = str(pathlib.Path(__file__).with_name(part + ".py"))
        if subprocess.run([sys.executable, script, "--seed", str(seed), "--jobs", str(a.jobs)]).returncode:
            bad.append(part)
    print("campaign: %s" % ("not clean: " + ", ".join(bad) if bad else "clean"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
