"""The journal beside the bare disk, and the policy's nine phases: programs in C, what they print is read here."""
import re
import subprocess

from . import base

JOURNAL_SHOW = [("rate", "messages/s", "%.0f"), ("disk", "the disk's own limit/s", "%.0f"), ("a_sync", "messages a sync", "%.1f"),
                ("cpu_us", "CPU us/message", "%.1f")]
POLICY_SHOW = [("cpu_us", "CPU us/message", "%.1f")]
JOURNAL = re.compile(r"(\d+) in work: +([\d.]+) messages/s +[\d.]+ syncs/s +([\d.]+) a sync +[\d.]+ ms each +([\d.]+) us cpu "
                     r"each +failed (\d+) +bare ([\d.]+) messages/s")
POLICY = re.compile(r"([\d.]+) us of CPU a message.*; ([\d.]+) us with ten")


def journal(report):
    report.show("journal", JOURNAL_SHOW)
    out = subprocess.run([str(base.BUILD / "t/bench/journal_bench"), str(base.OUT), "1" if base.SHORT else "3", "4096"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    found = JOURNAL.findall(out)
    if not found:
        base.complain("journal_bench printed: " + out)
    for n, rate, a_sync, cpu, failed, bare in found:
        if int(failed):
            base.complain("journal: %s failed at %s in work" % (failed, n))
        report.add("journal", "%s in work" % n, "impetus", dict(rate=float(rate), a_sync=float(a_sync), cpu_us=float(cpu),
                                                               disk=float(bare)))


def policy(report):
    report.show("policy", POLICY_SHOW)
    for _ in range(1 if base.SHORT else 3):
        out = subprocess.run([str(base.BUILD / "t/bench/policy_bench"), "50000" if base.SHORT else "200000"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        one, ten = POLICY.search(out).groups()
        report.add("policy", "nine phases, one message a session", "impetus", dict(cpu_us=float(one)))
        report.add("policy", "nine phases, ten messages a session", "impetus", dict(cpu_us=float(ten)))
