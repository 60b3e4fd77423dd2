"""The account: acknowledged = delivered + queued + bounced, no altered body, the ledger's difference 0, legal states only,
and nothing twice but what `indoubt list` names."""
import json
import os
import subprocess
import time

from lib.smtp import ID

from .mail import domain_of, key_of

# States in which a message may be found at rest, as `mailq` counts them. Nobody set anything aside in these runs.
LEGAL = {"active", "delayed", "in_work", "in_doubt"}
ILLEGAL = ("held", "quarantined")
# `message details` of one that is queued.
LEGAL_STATES = {"queued", "in work", "in doubt"}
HANG = int(os.environ.get("IMPETUS_CRASH_HANG", 240))


def ask(mta, *words, limit=HANG):
    """The console's answer; it, or the keeper, may be away for a moment."""
    end = time.monotonic() + limit
    while True:
        try:
            return mta.json(*words)
        except (AssertionError, ValueError, subprocess.TimeoutExpired) as e:
            if time.monotonic() > end:
                raise AssertionError("%s is not answered: %s" % (" ".join(words), e)) from e
            time.sleep(0.03)


def queues(mta):
    return {q["domain"]: q for q in ask(mta, "mailq", "-l", "100000")["queues"]}


def named(mta):
    return {a["recipient"] for a in ask(mta, "indoubt", "list")["attempts"]}


class Account:
    """acked: recipients answered 250; sent: all that were ever offered; before: addresses that had it before a cut."""

    def __init__(self, mta, peer, acked, sent, before=(), damaged=False):
        self.mta, self.peer, self.acked, self.sent, self.before = mta, peer, acked, sent, set(before)
        self.doubts, self.damaged = set(), damaged

    def missing(self):
        return {r for r in self.acked if key_of(r) not in self.peer.got and key_of(r) not in self.before}

    @staticmethod
    def deferred(domain):
        return domain.startswith(("stay", "later"))

    def at_rest(self, queued):
        """Everything that is not put off has come to its end, and nobody is at work."""
        return all(self.deferred(d) and not q["in_work"] for d, q in queued.items())

    def settle(self, what):
        """Waits until only what is put off is queued; gives what is wrong."""
        end = time.monotonic() + HANG
        while True:
            queued = queues(self.mta)
            if self.at_rest(queued) and (self.damaged or all(domain_of(r) in queued for r in self.missing())):
                break
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        self.doubts |= named(self.mta)
        return ["%s: %s" % (what, w) for w in self.wrong(queued)]

    def wrong(self, queued):
        for r in sorted(self.missing()):
            if domain_of(r) not in queued and not self.damaged:
                yield "%s was answered 250 and is neither delivered nor queued nor bounced" % r
        for d, q in queued.items():
            if not self.deferred(d):
                yield "%s does not drain: %s" % (d, q)
            elif not any(domain_of(r) == d for r in self.sent):
                yield "%s is queued and was never sent" % d
            if any(q[s] for s in ILLEGAL) and not self.damaged:
                yield "%s is in no legal state: %s" % (d, q)
            if sum(q[s] for s in LEGAL) + sum(q[s] for s in ILLEGAL) != 1 and self.deferred(d):
                yield "%s holds more than the one message: %s" % (d, q)
        if self.peer.altered:
            yield "altered: %s" % self.peer.altered[:5]
        ledger = ask(self.mta, "ledger")
        if ledger["difference"] != 0:
            yield "ledger: %s" % ledger
        if ledger["damaged"] and not self.damaged:
            yield "damage where there was none: %s" % ledger
        for r in sorted(self.twice() - self.doubts):
            yield "%s arrived %d times and is not named in doubt" % (r, self.peer.got[r] + (r in self.before))

    def twice(self):
        return {r for r, n in list(self.peer.got.items()) if n + (r in self.before) > 1}

    def states(self, ids, most=4):
        """Single messages by their ids: queued in a legal state, or gone."""
        for n, text in list(ids.items())[-most:]:
            found = ID.findall(text)
            said = self.mta.ctl("--json", "message", "details", found[0], check=False) if found else ""
            try:
                state = json.loads(said).get("state")
            except ValueError:
                continue
            if state is not None and state not in LEGAL_STATES:
                yield "message %d is %s" % (n, state)
