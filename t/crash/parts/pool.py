"""Several worlds beside each other, each in a process of its own, and one table of what they did."""
import argparse
import collections
import concurrent.futures
import multiprocessing
import os
import pathlib
import random
import sys
import tempfile
import time


def options(**more):
    """The command line that all parts have, with a seed in any case, and options of one's own: name = type."""
    p = argparse.ArgumentParser()
    p.add_argument("--short", action="store_true")
    p.add_argument("--seed", type=int)
    p.add_argument("--jobs", type=int, default=int(os.environ.get("IMPETUS_CRASH_JOBS", 2 * (os.cpu_count() or 1))))
    for name, kind in more.items():
        p.add_argument("--" + name, type=kind)
    a = p.parse_args()
    a.seed = a.seed if a.seed is not None else int.from_bytes(os.urandom(4), "little")
    return a


def run(name, seed, work, tasks, jobs):
    """work(folder, seed, task) gives (Counter, failures); prints the table and the closing line; the exit code."""
    counts, failures, start = collections.Counter(), [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="impetus-%s-" % name) as top:
        os.chmod(top, 0o755)
        ctx = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=ctx) as pool:
            jobs = [pool.submit(work, pathlib.Path(top) / str(i), "%d-%d" % (seed, i), t) for i, t in enumerate(tasks)]
            for done in concurrent.futures.as_completed(jobs):
                try:
                    c, f = done.result()
                except Exception as e:                          # a world that fell over is a failure, not an end
                    c, f = collections.Counter(), ["%s: %r" % (type(e).__name__, e)]
                counts += c
                failures += f
                print("%6d of them after %d s" % (counts["harms"], time.monotonic() - start), flush=True)
    for key in sorted(k for k in counts if k != "harms"):
        print("  %-44s %6d" % (key, counts[key]))
    for f in failures[:20]:
        print("FAILED: " + f)
    print("%d harms, %d s, seed %d" % (counts["harms"], time.monotonic() - start, seed))
    print("%s: %d passed, %d failed" % (name, counts["harms"], len(failures)), flush=True)
    return 1 if failures or not counts["harms"] else 0


def shared(items, per, seed):
    """Items in a seeded order, in lots of `per`."""
    items = list(items)
    random.Random(seed).shuffle(items)
    return [items[i:i + per] for i in range(0, len(items), per)]


sys.setswitchinterval(0.002)
