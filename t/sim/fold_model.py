#!/usr/bin/env python3
"""The spool's rules, enumerated: every interleaving of small worlds, breadth first, states hashed.

    fold_model.py [--short | --whole] [--mutations] [--without RULE ...] [--trace] [WORLD ...]

Two slots that write journals and a keeper that folds them, over one and two messages; a process may die, or the power
go, after every step, and of what was not synced every prefix may survive. Without arguments: the short form that
`make check` runs, worlds and mutations. Breadth first, so the first violation found is a shortest one. A mutation takes one
rule out, in the world that needs it, and must be seen to break a promise: so the model is known to see what it claims to.

A state is three flat dicts: d (processes, files, clients, what nobody in the house knows), x (the durable map), m (the
keeper's fold). A record is a tuple of items, for it is an atom:
    ("M", id)  ("T", id, n, place)  ("O", id, n, kind, place)  ("E", id, number, state, fingers, place)
    ("H", owner, ids in work)  ("END", segment, mark)  ("X",) damaged
    ("C", id, formerly at, tries) stands before the M of a message that the keeper has moved
A place is (segment, record). A segment is (writer, records, synced, mark, failed): below synced all survives a power cut.

What the enumeration asked for, beyond the rules as they are written in the design (each is a rule below, by its name):
  dsn-repeat    After a failed sync the repeated outcome brings its DSN along, in the same record and under the same id: no
                session gets a 451 for it, so nobody would make it again.
  one-record    Outcome and DSN in two records: a death between them loses the DSN, or (the other order) doubles it.
  edit-number   Edits of one message need an order of their own, as tries have: a rebuild reads segments in any order, and a
                hold read after its release would hold for ever. The edit carries number (row's + 1) and the whole new state.
  edit-memory   The owner remembers its edits, as its outcomes, until the checkpoint has passed them.
  edit-pin      A segment whose edit a row still depends on stays (or the edit is saved elsewhere, synced, first).
  finger-first  A finger's edit is synced and folded before its writer counts as gone: the next owner asks just for that.
  finger-writer It names the dead writer, and counts writers: a keeper that dies between edit and commit writes it again.
  ended-sync    .ended, and its name in the directory, are synced before the row of the segment says over,
  ended-trim    a torn .ended is cut back to its last whole entry before the next one is appended (else what follows cannot
                be read), and
  ended-last    segment N's own .ended goes only after the directory, without N, is synced: N may come back.
  own-open      A damaged record may be an outcome of a writer that lives, and the attempt would stay open until it dies. Who
                sees in the map an attempt of his own that he knows nothing of, says: outcome doubtful.
  edit-again    Who passes the checkpoint of his edit looks whether the row shows it, and writes it again if not.
  ended-try     A segment that goes also saves what it says of messages over by an outcome elsewhere: the attempt that it
                holds may be all that is left to name the message once that outcome's record is damaged.
  end-twice     "The last one ends at its mark" stands in two records: damaged alone, it would bring refused mail back.
  snapshot      Rows are compared with what the owner remembers only together with the checkpoints of their snapshot.
  writer-order  The segments of one writer are folded in their order. Else the handover record in its newest one is committed
                before an edit, or an attempt, in the one before it, and the next owner believes that it has seen all.
  end-each      If the sync of the new segment fails too, the next one says where both end, in its first record: else the
                repeated DSN stands twice after a power cut.
  copy-outcome  The outcome of a message that was moved may name its old place: what it says is saved beside the new segment
                when it is folded, for when the outcome's own goes it is not known any more where the message stood.
  copy-dead     A copy may be folded after its message is over (the keeper died between copy and fold): the same is saved.
  copy-ended    A message that was moved is over in its old segment, which a power cut may bring back. "Over" in .ended is
                said of the message in that segment, in an outcome's record of the message wherever it stands.
  copy-waits    No segment goes while a copy is not folded: what it says of the old place is all that stands between the copy
                and a rebuild.
  copy-idle     What is in work or in doubt is not moved: its attempt would be believed to have ended.
  gate          What was taken but not begun when the handover record was written, is not begun any more."""
import itertools
import sys
import time

# Rule: (world that needs it, what happens without).
RULES = {
    # 1: what may be folded, and what was synced
    "sync-first": ("fold", "a dead writer's segment is folded without making sure of it"),
    "copy-tail": ("failed", "an fdatasync after a failed one is trusted"),
    "end-first": ("failed", "a failed segment is folded to its last whole record"),
    "end-saved": ("failed-reclaim", "the segment goes that says where a failed one ends"),
    "end-each": ("bounce-failed", "the second failed segment is not said to have ended"),
    "no-answer": ("failed-twice", "the batch is refused though the second sync failed too"),
    "dot-waits": ("fold", "the final dot does not wait for the sync of the attempt"),
    "ack-waits": ("fold", "250 does not wait for the sync"),
    # 2, 3, 4: the fold
    "place-first": ("fold", "attempt and outcome are folded before the message's place"),
    "tries-rise": ("rebuild-tries", "an outcome of an earlier try closes a later attempt"),
    "doubt": ("fold", "an unpaired attempt of a dead writer leaves no doubt"),
    "writer-order": ("edit-order", "segments of one writer are folded in any order, the handover record first"),
    "gone-waits": ("two", "a writer counts as gone before its last segment is folded"),
    # owners
    "adopt-waits": ("adopt", "a partition passes on before the journal is folded"),
    "chain": ("adopt", "a partition passes on with the last owner's journal alone"),
    "memory": ("fold", "the owner forgets its outcome before the checkpoint passes it"),
    "hint-open": ("hint", "a hint below the checkpoint counts though an attempt is open"),
    "hint-row": ("hint", "a hint below the checkpoint counts though no row stands"),
    "snapshot": ("snapshot", "rows of one snapshot, checkpoints of a newer one"),
    "handover-waits": ("handover", "the next owner does not wait for the handover record"),
    "gate": ("handover", "what was not begun at the handover is begun after it"),
    # 5, 6: reclaiming
    "open-attempt": ("reclaim", "a segment goes with the only record of an attempt in doubt"),
    "row-over": ("numbers", "a file without a row, below the highest, passes for a remnant"),
    "ended": ("rebuild", "what a segment says of others is not saved when it goes"),
    "ended-ghost": ("remnant", "nothing is saved for a segment that the directory may bring back"),
    "ended-sync": ("torn", "the row is over before .ended is synced"),
    "ended-trim": ("torn", "the next entry is appended behind a torn one"),
    "ended-last": ("remnant", "N's own .ended goes together with N"),
    "copy-outcome": ("compact", "an outcome that names the old place says nothing of the new one"),
    "copy-dead": ("compact", "a copy that is folded too late is not said to be over"),
    "copy-ended": ("compact-ghost", "a moved message is not over in its old segment"),
    "copy-place": ("compact", "over in the old segment counts for the message wherever it stands"),
    "copy-waits": ("compact", "a segment goes while a copy is not folded"),
    "copy-idle": ("compact", "a message in work or in doubt is moved"),
    # 7: rebuild
    "rebuild-dir": ("remnant", "a rebuild without syncing the directory first"),
    "rebuild-waits": ("rebuild", "old mail does not wait until the last outcome is read"),
    # edits
    "edit-number": ("edit-rebuild", "edits of a message have no order"),
    "edit-memory": ("edit", "the owner forgets its edit before the checkpoint passes it"),
    "edit-pin": ("edit-rebuild", "a segment goes with an edit that a row depends on"),
    "edit-place": ("edit", "edits are folded before the message's place"),
    "finger-first": ("finger", "a writer counts as gone before its finger's edit is folded"),
    "finger-writer": ("finger-keeper", "fingers are counted, not the writers that left them"),
    # DSN
    "one-record": ("bounce", "outcome and DSN are two records"),
    "dsn-repeat": ("bounce-failed", "after a failed sync the outcome is repeated without its DSN"),
    "dsn-live": ("bounce-rebuild", "the segment of outcome and DSN goes when the bounced message is over"),
    # damage
    "own-open": ("damage", "an attempt stays open whose outcome is in a damaged record"),
    "edit-again": ("damage-edit", "nobody looks whether a damaged record was his edit"),
    "ended-try": ("damage-rebuild", "a segment with an attempt goes, and nothing is saved of a message over elsewhere"),
    "end-twice": ("damage-failed", "one record alone says where a failed segment ends"),
    "go-on": ("damage-behind", "folding stops at a damaged record"),
}
# World: who accepts the messages (in order), and how often what may happen. coarse 1: a worker's write, sync and answer
# are one step; 2: and the keeper's fold and commit. LONG: only in the whole form.
WORLDS = {
    "fold": dict(msgs="A", kill=1, power=1, defer=1, hint=1),
    "keeper": dict(msgs="A", kill=1, keeper=1, defer=1, hint=1),
    "two": dict(msgs="AB", kill=1, hint=1, coarse=2),
    "two-power": dict(msgs="AB", power=1, keeper=1, coarse=1),
    "numbers": dict(msgs="AB", keeper=1, reclaim=1, power=1, coarse=1),
    "reclaim": dict(msgs="A", kill=1, lose=1, reclaim=2, defer=1, coarse=1),
    "remnant": dict(msgs="A", power=1, lose=1, reclaim=2, rotate="AB", coarse=2, start=("A1 writes", "A1: segment")),
    "torn": dict(msgs="A", power=1, lose=1, reclaim=2, rotate="B", coarse=2, fine_ended=1, copies=2,
                 start=("A1 writes", "keeper", "B1 finds")),
    "rebuild": dict(msgs="AA", kill=1, lose=1, reclaim=1, coarse=2, start=("A1 writes message m1", "A1 writes", "keeper")),
    "rebuild-tries": dict(msgs="A", kill=1, lose=1, defer=1, coarse=2, rotate="B"),
    "adopt": dict(msgs="A", kill=2, power=1, hint=1, coarse=1),
    "hint": dict(msgs="A", reload=1, hint=2, defer=1),
    "snapshot": dict(msgs="A", kill=1, defer=1, snap=1, coarse=1),
    "handover": dict(msgs="AB", reload=1, kill=1, coarse=2),
    "failed": dict(msgs="A", fail=1, kill=1, power=1),
    "failed-twice": dict(msgs="A", fail=2, power=1),
    "failed-reclaim": dict(msgs="A", fail=1, kill=1, lose=1, reclaim=1),
    "edit": dict(msgs="A", kill=1, power=1, verbs=("held", "q"), coarse=1, hint=1),
    "edit-fine": dict(msgs="A", kill=1, verbs=("held", "q"), defer=1),
    "edit-rebuild": dict(msgs="A", kill=1, lose=1, reclaim=1, verbs=("held", "q"), rotate="B", coarse=2),
    "edit-order": dict(msgs="A", verbs=("held",), rotate="B", coarse=2, reload=1),
    "edit-handover": dict(msgs="A", reload=1, verbs=("held", "q"), hint=1, coarse=1),
    "edit-failed": dict(msgs="A", fail=1, power=1, verbs=("held",), coarse=0),
    "finger": dict(msgs="A", fault=2, coarse=1),
    "finger-keeper": dict(msgs="A", fault=2, keeper=1, coarse=1),
    "bounce": dict(msgs="A", kill=1, power=1, bounce=1),
    "bounce-expire": dict(msgs="A", kill=1, power=1, expire=1, hint=1, coarse=1),
    "bounce-failed": dict(msgs="A", fail=2, power=1, bounce=1, coarse=1),
    "bounce-rebuild": dict(msgs="A", kill=1, lose=1, reclaim=1, bounce=1, rotate="B", coarse=2),
    "compact": dict(msgs="A", kill=1, lose=1, reclaim=2, compact=1, rotate="A", coarse=2,
                    start=("A1 writes", "A1: segment", "keeper")),
    "compact-defer": dict(msgs="A", kill=1, lose=1, reclaim=1, compact=1, rotate="A", defer=1, coarse=2,
                          start=("A1 writes", "A1: segment", "keeper")),
    "compact-ghost": dict(msgs="A", power=1, lose=1, reclaim=2, compact=1, rotate="A", coarse=2,
                          start=("A1 writes", "A1: segment", "keeper")),
    "compact-edit": dict(msgs="A", kill=1, lose=1, reclaim=1, compact=1, rotate="A", verbs=("held", "q"), coarse=2,
                         start=("A1 writes", "A1: segment", "keeper")),
    "damage": dict(msgs="A", damage=1, kill=1, coarse=2),
    "damage-edit": dict(msgs="A", damage=1, verbs=("held",), coarse=2),
    "damage-bounce": dict(msgs="A", damage=1, bounce=1, kill=1, coarse=2),
    "damage-behind": dict(msgs="AA", damage=1, coarse=2),
    "damage-rebuild": dict(msgs="A", damage=1, lose=1, reclaim=1, rotate="B", coarse=2,
                           start=("A1 writes", "keeper")),
    "damage-failed": dict(msgs="A", damage=1, fail=1, kill=1, start=("A1 writes",)),
}
BUDGETS = ("kill", "fault", "power", "keeper", "defer", "lose", "reclaim", "reload", "fail", "hint", "bounce", "expire",
           "damage", "compact")
X = (("X",),)
FINAL = ("delivered", "bounced")


class Violation(Exception):
    pass


class State:
    __slots__ = ("d", "x", "m")

    def __init__(self, d, x, m):
        self.d, self.x, self.m = d, x, m

    def copy(self):
        return State(dict(self.d), dict(self.x), dict(self.m))

    def key(self):
        return frozenset(self.d.items()), frozenset(self.x.items()), frozenset(self.m.items())


def keyed(d, kind):
    return [(k, v) for k, v in d.items() if k[0] == kind]


# A row: what the map knows of a message.
PLACE, TRIES, DOUBT, NUMBER, ASIDE, FINGERS = range(6)


def changed(row, **by):
    names = {"place": PLACE, "tries": TRIES, "doubt": DOUBT, "number": NUMBER, "aside": ASIDE, "fingers": FINGERS}
    row = list(row)
    for k, v in by.items():
        row[names[k]] = v
    return tuple(row)


class Model:
    def __init__(self, world, without=()):
        self.w, self.off = WORLDS[world], set(without)

    def has(self, rule):
        return rule not in self.off

    def first(self):
        d = {("up", "A1"): 1, ("up", "B1"): 1, ("up", "K1"): 1, ("owner",): "B1", ("next",): 1}
        for i, slot in enumerate(self.w["msgs"]):
            d[("new", "m%d" % (i + 1))] = slot
        for b in BUDGETS:
            if self.w.get(b):
                d[("left", b)] = self.w[b]
        if self.w.get("verbs"):
            d[("verb",)] = 0
        s = State(d, {}, {})
        for want in self.w.get("start", ()):  # the world begins later: these steps are done
            s = next(c for words, c, _, _ in self.steps(s) if words.startswith(want))
        return s

    def spend(self, c, budget):
        c.d[("left", budget)] -= 1
        if not c.d[("left", budget)]:
            del c.d[("left", budget)]

    # ---------------------------------------------------------------- journals
    def open(self, s, p):
        n = s.d[("next",)]
        s.d[("next",)] = n + 1
        s.d[("cur", p)] = n
        s.d[("seg", n)] = (p, (), 0, 0, 0)
        return n

    def write(self, s, p, *items):
        """One record into p's own segment; nobody ever writes into another's."""
        n = s.d.get(("cur", p))
        if n is None:
            n = self.open(s, p)
        w, recs, sy, mk, fl = s.d[("seg", n)]
        s.d[("seg", n)] = (w, recs + (items,), sy, mk, fl)
        return n, len(recs)

    def sync(self, s, n):
        w, recs, sy, mk, fl = s.d[("seg", n)]
        s.d[("seg", n)] = (w, recs, sy if fl else len(recs), len(recs), fl)

    def synced(self, d, place):
        g = d.get(("seg", place[0]))
        return g is None or place[1] < g[3]

    def sealed(self, s, n):
        w = s.d[("seg", n)][0]
        return ("up", w) not in s.d or s.d.get(("cur", w)) != n

    def end_of(self, s, n):
        """Where segment n ends, if a later one, its .ended or the map says so."""
        if self.has("end-first"):
            for _, (_, recs, _, _, _) in keyed(s.d, "seg"):
                for it in (it for rec in recs[:2] for it in rec):
                    if it[:2] == ("END", n):
                        return it[2]
        for e in self.ended_read(s, n):
            if e[0] == "END":
                return e[1]
        return s.m.get(("end", n))

    def limit(self, s, n):
        """Rule 1: how far segment n may be folded; of a sealed one the keeper makes sure first."""
        d = s.d
        w, recs, sy, mk, fl = d[("seg", n)]
        if not self.sealed(s, n):
            return mk
        end = self.end_of(s, n)
        if end is not None:
            return end
        if fl and ("up", w) in d:  # its writer lives and has not said yet where it ends
            return mk
        if not self.has("sync-first"):
            return len(recs)
        if not fl or self.has("copy-tail"):  # the bytes above the mark are written anew, then synced
            d[("seg", n)] = (w, recs, len(recs), mk, 0)
        return len(recs)

    # ---------------------------------------------------------------- the fold
    def fold(self, s, n, upto=None):
        m = s.m
        if ("over", n) in m:
            return
        if self.has("writer-order"):
            for k in sorted(k[1] for k, g in keyed(s.d, "seg") if g[0] == s.d[("seg", n)][0] and k[1] < n):
                self.fold(s, k)
        lim = self.limit(s, n)
        lim = lim if upto is None else min(lim, upto)
        at = m.get(("chk", n), 0)
        while at < lim:
            rec = s.d[("seg", n)][1][at]
            if rec == X and not self.has("go-on"):
                break
            for it in rec:
                self.places_first(s, n, it)
            at += 1
            m[("chk", n)] = at
            if rec[0][0] == "C":
                self.apply_copy(m, rec[0], (n, at - 1))
                continue
            for it in rec:
                self.apply(s, it, (n, at - 1))
        m.setdefault(("chk", n), at)

    def apply_copy(self, m, it, place):
        """Rule 5: the row moves. Where none stands at the old place, the message must not come back from this copy."""
        row = m.get(("row", it[1]))
        if row and row[PLACE] == it[2]:
            m[("row", it[1])] = changed(row, place=place)
            if self.has("copy-ended"):
                m[("moved", it[2][0], it[1])] = 1
        elif not (row and row[PLACE] == place) and self.has("copy-dead"):
            m[("moved", place[0], it[1])] = 1

    def places_first(self, s, n, it):
        """Rule 2."""
        if it[0] not in "TOE" or not self.has("edit-place" if it[0] == "E" else "place-first"):
            return
        pn, po = it[-1]
        if pn != n and ("seg", pn) in s.d:
            self.fold(s, pn, po + 1)

    def apply(self, s, it, place):
        m, t = s.m, it[0]
        w = s.d[("seg", place[0])][0]
        if t == "X":
            m[("bad", place[0])] = 1
        elif t == "H":
            m[("hand", it[1])] = it[2]
        elif t == "END":
            m[("end", it[1])] = it[2]
        elif t == "M":
            m[("row", it[1])] = (place, 0, 0, 0, "q", ())
            m["in"] = m.get("in", 0) + 1
        elif ("row", it[1]) in m:  # a fact about an id that is over or unknown changes nothing
            {"T": self.apply_attempt, "O": self.apply_outcome, "E": self.apply_edit}[t](m, it, w)

    def apply_attempt(self, m, it, w):
        row = m[("row", it[1])]
        if it[2] > row[TRIES]:  # rule 3: try numbers only rise
            m[("row", it[1])] = changed(row, tries=it[2], doubt=0)
            m[("att", it[1])] = (it[2], w)

    def apply_outcome(self, m, it, w):
        row = m[("row", it[1])]
        if it[3] in FINAL:  # rule 3: a final outcome wins
            if row[PLACE] != it[4] and self.has("copy-outcome"):
                m[("moved", row[PLACE][0], it[1])] = 1
            del m[("row", it[1])]
            m.pop(("att", it[1]), None)
            m["out"] = m.get("out", 0) + 1
        elif it[2] >= row[TRIES] or not self.has("tries-rise"):
            m[("row", it[1])] = changed(row, tries=it[2], doubt=1 if it[3] == "doubtful" else 0)
            m.pop(("att", it[1]), None)

    def apply_edit(self, m, it, w):
        row = m[("row", it[1])]
        if it[2] > row[NUMBER] or not self.has("edit-number"):
            aside, fingers = it[3], it[4]
            if not self.has("finger-writer") and fingers:
                fingers = row[FINGERS] + ("?",)
                aside = "quarantined" if len(fingers) > 1 else aside
            m[("row", it[1])] = changed(row, number=it[2], aside=aside, fingers=fingers)

    def settle(self, s):
        """Rule 4: a process is gone and all its segments are folded: what is unpaired is in doubt."""
        m, d = s.m, s.d
        dead = {g[0] for _, g in keyed(d, "seg") if ("up", g[0]) not in d} | {k[1] for k, _ in keyed(d, "dead")}
        for p in sorted(dead):
            mine = [k[1] for k, g in keyed(d, "seg") if g[0] == p and ("over", k[1]) not in m]
            if self.has("gone-waits") and not all(m.get(("chk", n), -1) >= self.limit(s, n) for n in mine):
                continue
            if self.finger_owed(s, p) and self.has("finger-first"):
                continue
            m[("gone", p)] = 1
            for k, v in keyed(m, "att"):
                if v[1] == p:
                    m[("row", k[1])] = changed(m[("row", k[1])], doubt=1 if self.has("doubt") else 0)
                    del m[k]

    def finger_owed(self, s, p):
        row = s.m.get(("row", s.d.get(("finger", p))))
        return row is not None and (p not in row[FINGERS] if self.has("finger-writer") else ("judged", p) not in s.m)

    def commit(self, s):
        """The net effect and every checkpoint, in one transaction; what was moved is said beside the segments before."""
        for k, _ in sorted(keyed(s.m, "moved")):
            if ("seg", k[1]) in s.d or ("ghost", k[1]) in s.d:
                self.ended_add(s, k[1], [("over", k[2])])
                v = s.d[("ended", k[1])]
                s.d[("ended", k[1])] = (v[0], len(v[0]), 1)
            del s.m[k]
        s.x = dict(s.m)
        x, d = s.x, s.d
        if x.get("in", 0) != x.get("out", 0) + len(keyed(x, "row")):
            raise Violation("ledger: the flows do not balance with the counted rows")
        for k, row in keyed(x, "row"):
            g = d.get(("seg", row[PLACE][0]))
            if g is None or row[PLACE][1] >= g[2]:
                raise Violation("a row points to bytes that the disk may forget (%s)" % k[1])
            if row[ASIDE] == "quarantined" and d.get(("faults", k[1]), 0) < 2 and ("harm", k[1], "M") not in d:
                raise Violation("%s is quarantined, and was at fault %d times" % (k[1], d.get(("faults", k[1]), 0)))
        for k, _ in keyed(d, "finger"):
            if ("gone", k[1]) in x:
                del d[k]
        if not self.w.get("snap"):
            self.forget_passed(s, s.x, [k[1] for k, _ in keyed(d, "up")])

    def forget_passed(self, s, x, procs):
        """The checkpoint has passed what the owner wrote: it need not be remembered any more."""
        d = s.d
        for k, v in [(k, v) for k, v in keyed(d, "st") if v[0] == "out" and k[1] in procs]:
            seg, rec = v[1]
            if x.get(("chk", seg), 0) > rec or ("over", seg) in x:
                row = x.get(("row", k[2]))
                if v[4] in ("held", "q") and row and row[NUMBER] < v[3] and self.has("edit-again"):
                    d[k] = ("again",) + v[2:]  # its record is damaged
                else:
                    del d[k]

    # ---------------------------------------------------------------- rebuild
    def rebuild(self, s):
        """Rule 7: what the journals say, less .ended, less outcomes in the segments that are left."""
        d, m = s.d, {}
        s.m = m
        if self.has("rebuild-dir"):
            for k, _ in keyed(d, "ghost"):
                del d[k]
        lims = {k[1]: self.limit(s, k[1]) for k, _ in sorted(keyed(d, "seg"))}
        every = [(it, (n, i), d[("seg", n)][0]) for n, lim in sorted(lims.items(), reverse=self.w.get("copies") is None)
                 for i in range(lim) for it in d[("seg", n)][1][i]]
        copies = {place: it for it, place, _ in every if it[0] == "C"}
        finals = {it[1] for it, _, _ in every if it[0] == "O" and it[3] in FINAL and d[("rebuild",)] == 2}
        over = {(k[1], e[1]) for k, _ in keyed(d, "ended") for e in self.ended_read(s, k[1]) if e[0] == "over"}
        if not self.has("copy-place"):
            finals |= {mid for _, mid in over}
        for it, place, _ in sorted(every, key=lambda e: e[1] not in copies):
            if it[0] != "M" or ("row", it[1]) in m:
                continue
            c = copies.get(place)
            if it[1] not in finals and (place[0], it[1]) not in over:
                m[("row", it[1])] = (place, c[3] if c else 0, 0, 0, "q", ())
                if c and self.has("copy-ended"):
                    m[("moved", c[2][0], it[1])] = 1
            elif c and self.has("copy-dead"):
                m[("moved", place[0], it[1])] = 1
        if d.pop(("rebuild",)) == 1:  # a commit on the way: not all is read yet
            m["in"] = len(keyed(m, "row"))
            d[("rebuild",)] = 2
            for k, _ in keyed(m, "moved"):
                del m[k]
            s.x = dict(m)
            return
        for it, place, w in every:
            if it[0] in ("T", "E") and ("row", it[1]) in m or it[0] in ("H", "END", "X"):
                self.apply(s, it, place)
        for it, place, w in every:
            if it[0] == "O" and ("row", it[1]) in m:
                self.apply(s, it, place)
        m.update({("chk", n): lim for n, lim in lims.items()})
        m["in"], m["out"] = len(keyed(m, "row")), 0  # the ledger begins anew, with "carried"
        self.settle(s)
        self.commit(s)

    # ---------------------------------------------------------------- .ended: entries, how many are synced, name synced
    def ended_read(self, s, n):
        """To the first entry that is torn."""
        entries = s.d.get(("ended", n), ((), 0, 0))[0]
        return list(itertools.takewhile(lambda e: e != ("TORN",), entries))

    def ended_add(self, c, n, new):
        entries, sy, named = c.d.get(("ended", n), ((), 0, 0))
        if self.has("ended-trim") and ("TORN",) in entries:
            entries = entries[:entries.index(("TORN",))]
            sy = min(sy, len(entries))
        entries += tuple(e for e in new if e not in entries)
        c.d[("ended", n)] = (entries, sy, named)

    def ended_survivals(self, entries, sy, named):
        """What a power cut may leave of the file: a prefix, perhaps with a torn entry behind."""
        for n in range(sy, len(entries) + 1):
            yield (entries[:n], n, 1)
            if n < len(entries):
                yield (entries[:n] + (("TORN",),), n + 1, 1)
        if not named:
            yield None

    # ---------------------------------------------------------------- all steps from a state
    def steps(self, s):
        """(words, state, must, violation). A must is a step that happens in the end; the others may or may not."""
        out = []

        def do(words, f, must=True):
            c = s.copy()
            try:
                f(c)
                self.coarse(c, words)
            except Violation as v:
                out.append((words, c, must, str(v)))
                return
            out.append((words, c, must, None))

        ups = sorted(k[1] for k, _ in keyed(s.d, "up"))
        for p in ups:
            if p[0] != "K":
                self.reception(s, p, do)
                self.failing(s, p, do)
                self.owner(s, p, do)
                self.delivery(s, p, do)
        self.keeper(s, next(p for p in ups if p[0] == "K"), do)
        self.faults(s, ups, do)
        return out

    def coarse(self, c, words):
        if not self.w.get("coarse"):
            return
        if not words.endswith("fails"):
            for k, n in keyed(c.d, "cur"):
                if not c.d[("seg", n)][4] and not (("left", "fail") in c.d and "fails" in words):
                    if ("left", "fail") not in c.d or k[1][0] == "K":
                        self.sync(c, n)
        for k, pl in keyed(c.d, "wait"):
            if self.synced(c.d, pl):
                self.acked(c, k, pl)
        for k, v in keyed(c.d, "tell"):
            if self.synced(c.d, v[0]):
                self.told(c, k, v)
        if self.w["coarse"] == 2 and words.startswith("keeper") and ("rebuild",) not in c.d:
            self.settle(c)
            if c.m != c.x:
                self.commit(c)

    # ---------------------------------------------------------------- a worker: reception and its journal
    def reception(self, s, p, do):
        d = s.d
        for k, _ in [(k, v) for k, v in keyed(d, "new") if v == p[0]]:
            def accept(c, mid=k[1]):
                del c.d[("new", mid)]
                c.d[("cl", mid)] = "waiting"
                c.d[("wait", p, mid)] = self.write(c, p, ("M", mid))
            if ("batch", p) not in d and ("drained", p) not in d:
                do("%s writes message %s" % (p, k[1]), accept)
        for k, pl in keyed(d, "wait"):
            if k[1] == p and (self.synced(d, pl) or not self.has("ack-waits")):
                do("%s answers 250 for %s" % (p, k[2]), lambda c, k=k, pl=pl: self.acked(c, k, pl))
        n = d.get(("cur", p))
        if n is None:
            return
        w, recs, sy, mk, fl = d[("seg", n)]
        if mk < len(recs) and not fl:
            do("%s syncs segment %d, mark %d" % (p, n, len(recs)), lambda c: self.sync(c, n))
        if p[0] in self.w.get("rotate", "") and recs and mk == len(recs) and \
                not any(g[0] == p for k, g in keyed(d, "seg") if k[1] != n):
            do("%s: segment %d is full, opens a new one" % (p, n), lambda c: self.open(c, p), False)

    def acked(self, c, k, pl):
        del c.d[k]
        c.d[("cl", k[2])] = "acked"
        if ("left", "hint") in c.d:
            c.d[("hint", k[2])] = pl

    def told(self, c, k, v):
        del c.d[k]
        c.d[("told", k[2])] = v[1]

    # ---------------------------------------------------------------- a failed sync
    def failing(self, s, p, do):
        d, n = s.d, s.d.get(("cur", p))
        if n is None:
            return
        w, recs, sy, mk, fl = d[("seg", n)]
        if mk < len(recs) and not fl and ("left", "fail") in d:
            do("%s: sync of segment %d fails" % (p, n), lambda c: self.failed(c, p, n), False)
        if fl:
            do("%s opens a segment: \"%d ends at its mark\"" % (p, n), lambda c: self.after_failed(c, p, n))
        if ("batch", p) in d and mk > 0 and not fl:
            def refuse(c):
                for k, _ in keyed(c.d, "batch"):
                    if k[1] == p:
                        del c.d[k]
                        if len(k) > 2:
                            c.d[("cl", k[2])] = "refused"
            do("%s answers 451 to the batch" % p, refuse)

    def failed(self, c, p, n):
        """Never written or synced again; what was not synced may be on disk or not."""
        self.spend(c, "fail")
        w, recs, sy, mk, fl = c.d[("seg", n)]
        second = bool(recs) and recs[0][0][0] == "END" and mk == 0
        c.d[("seg", n)] = (w, recs, sy, mk, 1)
        c.d[("batch", p)] = 1
        for k, pl in keyed(c.d, "wait"):
            if k[1] == p and pl[0] == n and pl[1] >= mk:
                del c.d[k]
                c.d[("batch", p, k[2])] = 1
        if second:  # nobody can say: no answer
            for k, _ in keyed(c.d, "batch"):
                if k[1] == p and len(k) > 2:
                    del c.d[k]
                    c.d[("cl", k[2])] = "unanswered" if self.has("no-answer") else "refused"

    def after_failed(self, c, p, n):
        """The new segment begins with the old one's end, and repeats what was not a session's."""
        w, recs, sy, mk, fl = c.d[("seg", n)]
        lost = [(i, r) for i, r in enumerate(recs) if i >= mk]
        ends = tuple(it for it in recs[0] if it[0] == "END") if mk == 0 else ()
        self.open(c, p)
        if self.has("end-each") or not ends:
            ends += (("END", n, mk),)
        for _ in range(2 if self.w.get("damage") and self.has("end-twice") else 1):
            self.write(c, p, *ends)
        for i, rec in lost:
            if rec[0][0] == "M" and rec[0][1][0] != "d" or rec[0][0] == "END":
                continue
            pl = self.write(c, p, *(rec if self.has("dsn-repeat") else rec[:1]))
            for k, v in [(k, v) for k, v in keyed(c.d, "st") if k[1] == p]:
                if v[0] in ("att", "out") and v[1] == (n, i):
                    c.d[k] = (v[0], pl) + v[2:]
            for k, v in [(k, v) for k, v in keyed(c.d, "tell") if k[1] == p and v[0] == (n, i)]:
                c.d[k] = (pl, v[1])

    # ---------------------------------------------------------------- the owner
    # st, by process and message: ("sched", place, tries), ("att", where, place, n), ("ans", place, n, kind),
    # ("out", where, place, n, kind) what it wrote and the map may not show yet, ("again", place, number, state): an edit
    def owner(self, s, p, do):
        d = s.d
        before = d.get(("before", d[("owner",)]), ())
        if p in before and ("drained", p) not in d:
            do("%s writes its handover record" % p, lambda c: self.handover(c, p))
        if ("drained", p) in d and not any(k[1] == p for k, v in keyed(d, "st") if v[0] != "out") and \
                not any(k[1] == p for kind in ("wait", "batch", "tell") for k, _ in keyed(d, kind)) and \
                not any(v == p[0] for _, v in keyed(d, "new")) and ("cur", p) in d and not d[("seg", d[("cur", p)])][4]:
            do("%s has nothing in work, exits" % p, lambda c: self.forget(c, p, respawn=False))
        if d[("owner",)] != p or (("rebuild",) in d and self.has("rebuild-waits")):
            return
        if before and ("adopted", p) not in d:
            if all(self.passed_on(s, old) for old in before):
                def adopt(c):
                    c.d[("adopted", p)] = 1
                do("%s takes the partition" % p, adopt)
            return
        self.take_hints(s, p, do)
        self.look(s, p, do)
        self.verb(s, p, do)

    def passed_on(self, s, old):
        """The keeper has committed the old owner's handover record, or its sealed journal."""
        d, x = s.d, s.x
        if ("up", old) in d:
            return ("hand", old) in x or not self.has("handover-waits")
        return ("gone", old) in x or ("hand", old) in x or not any(g[0] == old for _, g in keyed(d, "seg")) or \
            not self.has("adopt-waits")

    def handover(self, c, p):
        """All of mine but these, which are in work."""
        for k, v in [(k, v) for k, v in keyed(c.d, "st") if k[1] == p]:
            if v[0] == "sched" and self.has("gate"):
                del c.d[k]
        busy = frozenset(k[2] for k, v in keyed(c.d, "st") if k[1] == p and v[0] in ("att", "ans", "again"))
        self.write(c, p, ("H", p, busy))
        c.d[("drained", p)] = 1

    def may_take(self, x, mid):
        """Set aside or in work: not now. What an old owner still has in work has its attempt in the map by the time its
        handover record is there ("gate", "writer-order"), so the ids in that record are not needed to decide."""
        return x[("row", mid)][ASIDE] == "q" and ("att", mid) not in x

    def take_hints(self, s, p, do):
        d = s.d
        for k, pl in keyed(d, "hint") if ("left", "hint") in d else ():
            def take(c, mid=k[1], pl=pl):
                self.spend(c, "hint")
                if ("left", "hint") not in c.d:
                    del c.d[("hint", mid)]
                if ("st", p, mid) in c.d:
                    return
                x = c.x
                if pl[1] >= x.get(("chk", pl[0]), 0) and ("over", pl[0]) not in x:
                    c.d[("st", p, mid)] = ("sched", pl, 0)
                elif ("row", mid) in x:
                    row = x[("row", mid)]
                    if self.may_take(x, mid) and not row[DOUBT] or not self.has("hint-open"):
                        c.d[("st", p, mid)] = ("sched", row[PLACE], row[TRIES])
                elif not self.has("hint-row"):
                    c.d[("st", p, mid)] = ("sched", pl, 0)
            do("%s takes the hint of %s" % (p, k[1]), take, False)

    def look(self, s, p, do):
        d = s.d
        if self.w.get("snap"):
            return self.look_snapshot(s, p, do)
        for k, row in keyed(s.x, "row"):
            mid, st = k[1], d.get(("st", p, k[1]))
            if st and not (st[0] == "out" and not self.has("edit-memory" if st[4] in ("held", "q") else "memory")):
                continue
            if self.may_take(s.x, mid):
                do("%s finds %s in the map%s" % (p, mid, ", in doubt: names it" if row[DOUBT] else ""),
                   lambda c, mid=mid, row=row: self.found(c, p, mid, row))

    def found(self, c, p, mid, row):
        c.d[("st", p, mid)] = ("sched", row[PLACE], row[TRIES])
        if row[DOUBT]:
            c.d[("named", mid)] = 1

    def look_snapshot(self, s, p, do):
        """The same in two steps: the reading thread reads a snapshot, the loop takes what it found."""
        d, snap = s.d, s.d.get(("snap", p))
        mine = [(k, v) for k, v in s.x.items() if k[0] in ("row", "att", "chk", "over", "hand", "gone", "bad")]
        if snap is None:
            do("%s reads a snapshot" % p, lambda c: c.d.__setitem__(("snap", p), frozenset(mine)), bool(mine))
            return

        def apply(c):
            x = dict(c.d.pop(("snap", p)))
            self.forget_passed(c, x if self.has("snapshot") else c.x, [p])
            for k, row in keyed(x, "row"):
                if ("st", p, k[1]) not in c.d and self.may_take(x, k[1]):
                    self.found(c, p, k[1], row)
        do("%s takes what the snapshot has" % p, apply, dict(snap) != dict(mine) or self.news(d, p, dict(snap)))

    def news(self, d, p, x):
        return any(("st", p, k[1]) not in d and self.may_take(x, k[1]) for k, _ in keyed(x, "row")) or \
            any(k[1] == p and v[0] == "out" and x.get(("chk", v[1][0]), 0) > v[1][1] for k, v in keyed(d, "st"))

    def verb(self, s, p, do):
        d, x, mid = s.d, s.x, "m1"
        at = d.get(("verb",), 99)
        verbs = self.w.get("verbs", ())
        st, row = d.get(("st", p, mid)), x.get(("row", mid))
        if at >= len(verbs) or ("drained", p) in d:
            return
        if verbs[at] == "held" and (st and st[0] == "sched" or not st and row and self.may_take(x, mid)) or \
                verbs[at] == "q" and not st and row and row[ASIDE] == "held":
            def edit(c):
                c.d[("verb",)] = at + 1
                place = st[1] if st else row[PLACE]
                number = (row[NUMBER] if row else 0) + 1
                where = self.write(c, p, ("E", mid, number, verbs[at], (), place))
                c.d[("st", p, mid)] = ("out", where, place, number, verbs[at])
                c.d[("tell", p, mid)] = (where, verbs[at])
                c.d.pop(("told", mid), None)
            do("%s writes an edit of %s: %s" % (p, mid, verbs[at]), edit, False)

    # ---------------------------------------------------------------- delivery
    def delivery(self, s, p, do):
        d = s.d
        for k, v in [(k, v) for k, v in keyed(d, "st") if k[1] == p]:
            mid = k[2]
            if v[0] == "sched":
                do("%s writes attempt %d of %s" % (p, v[2] + 1, mid), lambda c, k=k, v=v: self.attempt(c, k, v))
                if ("left", "expire") in d and mid[0] == "m":
                    def expire(c, k=k, v=v):
                        self.spend(c, "expire")
                        self.outcome(c, k, v[1], v[2] + 1, "bounced")
                    do("%s lets %s expire" % (p, mid), expire, False)
            elif v[0] == "att" and (self.synced(d, v[1]) or not self.has("dot-waits")):
                do("%s sends the final dot of %s, the remote says yes" % (p, mid), lambda c, k=k, v=v: self.dot(c, k, v))
                for budget, kind in (("defer", "deferred"), ("bounce", "bounced")):
                    def other(c, k=k, v=v, budget=budget, kind=kind):
                        self.spend(c, budget)
                        c.d[k] = ("ans", v[2], v[3], kind)
                    if ("left", budget) in d and mid[0] == "m":
                        do("%s: the remote says %s of %s" % (p, kind, mid), other, False)
            elif v[0] == "again":
                def edit(c, k=k, v=v):
                    where = self.write(c, p, ("E", k[2], v[2], v[3], (), v[1]))
                    c.d[k] = ("out", where) + v[1:]
                do("%s writes its edit of %s again" % (p, mid), edit)
            elif v[0] == "ans":
                do("%s writes outcome %d of %s: %s" % (p, v[2], mid, v[3]), lambda c, k=k, v=v: self.outcome(c, k, *v[1:]))
        for k, (n, w) in keyed(s.x, "att") if self.has("own-open") and ("rebuild",) not in d else ():
            if w == p and ("st", p, k[1]) not in d:  # its outcome is in a damaged record
                def doubtful(c, mid=k[1], n=n):
                    self.outcome(c, ("st", p, mid), c.x[("row", mid)][PLACE], n, "doubtful")
                do("%s knows of no attempt %d of %s, says doubtful" % (p, n, k[1]), doubtful)
        for k, v in keyed(d, "owed"):
            if k[1] == p:
                def rest(c, k=k, v=v):
                    del c.d[k]
                    self.write(c, p, v)
                do("%s writes the other half of %s" % (p, k[2]), rest)
        for k, v in keyed(d, "tell"):
            if k[1] == p and self.synced(d, v[0]):
                do("%s tells the console that %s is %s" % (p, k[2], v[1]), lambda c, k=k, v=v: self.told(c, k, v))

    def attempt(self, c, k, v):
        d, (_, p, mid) = c.d, k
        g = d.get(("seg", v[1][0]))
        rec = g[1][v[1][1]] if g and len(g[1]) > v[1][1] else ()
        if rec == X:  # its bytes are damaged: set aside, for the console
            row = c.x.get(("row", mid))
            number = (row[NUMBER] if row else 0) + 1
            d[k] = ("out", self.write(c, p, ("E", mid, number, "quarantined", (), v[1])), v[1], number, "held")
            return
        if ("M", mid) not in rec:  # no file, or another id there: look the row up again
            del d[k]
            return
        if any(q[2] == mid and q[1] != p and w[0] in ("att", "ans") for q, w in keyed(d, "st")):
            raise Violation("%s begins %s, which another process has in work" % (p, mid))
        if d.get(("told", mid)) == "held":
            raise Violation("%s was held, as the console was told, and is tried" % mid)
        if d.get(("faults", mid), 0) > 1:
            raise Violation("%s ended two processes and is tried again" % mid)
        d[k] = ("att", self.write(c, p, ("T", mid, v[2] + 1, v[1])), v[1], v[2] + 1)

    def dot(self, c, k, v):
        d, mid = c.d, k[2]
        parent = d.get(("dsn", mid), mid)
        family = [parent] + [q[1] for q, of in keyed(d, "dsn") if of == parent]
        if any(d.get(("dots", i)) for i in family) and ("named", parent) not in d and ("named", mid) not in d and \
                not any(("harm", i, t) in d for i in family for t in "T"):
            raise Violation("%s delivered%s, and not named in doubt" %
                            (mid, " twice" if d.get(("dots", mid)) else " beside another of %s" % parent))
        if d.get(("cl", mid)) == "refused":
            raise Violation("%s was refused after a failed sync, and is delivered" % mid)
        d[("dots", mid)] = d.get(("dots", mid), 0) + 1
        d.pop(("named", mid), None)
        d[k] = ("ans", v[2], v[3], "delivered")

    def outcome(self, c, k, place, n, kind):
        d, (_, p, mid) = c.d, k
        items = [("O", mid, n, kind, place)]
        if kind == "bounced":
            of = [q for q, parent in keyed(d, "dsn") if parent == mid and q[2:] == (p, n)]
            did = of[0][1] if of else "d%d" % (1 + len(keyed(d, "dsn")))
            d[("dsn", did, p, n)] = mid
            d[("dsn", did)] = mid
            items.append(("M", did))
        if not self.has("one-record") and len(items) > 1:
            d[("owed", p, mid)] = items.pop()
        d[k] = ("out", self.write(c, p, *items), place, n, kind)

    # ---------------------------------------------------------------- the keeper
    def keeper(self, s, kp, do):
        d, m = s.d, s.m
        if ("rebuild",) in d:
            do("keeper rebuilds the index, stage %d" % d[("rebuild",)], self.rebuild)
            return
        high = max([k[1] for k, _ in keyed(s.x, "chk")] or [0])
        for k, g in sorted(keyed(d, "seg")):
            n = k[1]
            if ("over", n) in s.x or not self.has("row-over") and ("chk", n) not in m and n < high:
                do("keeper unlinks segment %d" % n, lambda c, n=n: self.unlink(c, n))
            elif ("chk", n) not in m or m[("chk", n)] < self.limit(s.copy(), n):
                def fold(c, n=n):
                    self.fold(c, n)
                    self.settle(c)
                do("keeper folds segment %d" % n, fold)
        for k, _ in keyed(d, "ghost"):
            do("keeper syncs the directory, the row of segment %d goes" % k[1], lambda c, n=k[1]: self.unlinked(c, n))
        for k, _ in keyed(d, "finger"):
            self.judge(s, kp, k[1], do)
        t = s.copy()
        self.settle(t)
        if t.m != s.x:
            def commit(c):
                self.settle(c)
                self.commit(c)
            do("keeper commits", commit)
        elif m == s.x:
            self.reclaim(s, do)
            self.compact(s, kp, do)

    def compact(self, s, kp, do):
        """The messages of a sealed segment are copied into the keeper's own; fold and commit follow as for any record."""
        d = s.d
        if ("left", "compact") not in d or keyed(d, "saving"):
            return
        for k, _ in sorted(keyed(d, "seg")):
            rows = {r[1]: row for r, row in keyed(s.x, "row") if row[PLACE][0] == k[1]}
            if not rows or d[k][0] == kp or ("over", k[1]) in s.x or not self.reclaimable(s, k[1], rows):
                continue
            if self.has("copy-idle") and any(("att", mid) in s.x or row[DOUBT] for mid, row in rows.items()):
                continue

            def move(c, rows=rows):
                self.spend(c, "compact")
                for mid, row in sorted(rows.items()):
                    n, _ = self.write(c, kp, ("C", mid, row[PLACE], row[TRIES]), ("M", mid))
                self.sync(c, n)
            do("keeper: the messages of segment %d are copied, synced" % k[1], move, False)

    def judge(self, s, kp, p, do):
        """A process died by its own fault: an edit says so, once its journal is folded."""
        d, m = s.d, s.m
        mine = [k[1] for k, g in keyed(d, "seg") if g[0] == p]
        if not self.finger_owed(s, p) or not all(m.get(("chk", n), -1) >= self.limit(s.copy(), n) for n in mine):
            return
        mid = d[("finger", p)]

        def write(c):
            row = c.m[("row", mid)]
            fingers = row[FINGERS] + (p,)
            aside = "quarantined" if len(fingers) > 1 else row[ASIDE]
            n, _ = self.write(c, kp, ("E", mid, row[NUMBER] + 1, aside, fingers, row[PLACE]))
            self.sync(c, n)
            self.fold(c, n)
            if not self.has("finger-writer"):
                c.m[("judged", p)] = 1
        do("keeper writes the finger of %s on %s, synced" % (p, mid), write)

    def reclaim(self, s, do):
        d = s.d
        for k, stage in keyed(d, "saving"):
            if stage == 1:
                def sync(c, n=k[1]):
                    for e, v in keyed(c.d, "ended"):
                        c.d[e] = (v[0], len(v[0]), 1)
                    c.d[("saving", n)] = 2
                do("keeper syncs .ended and the directory", sync)
            if stage == 2 or not self.has("ended-sync"):
                do("keeper marks segment %d over" % k[1], lambda c, n=k[1]: self.mark_over(c, n))
        if ("left", "reclaim") not in d or keyed(d, "saving"):
            return
        if self.has("copy-waits") and any(rec[0][0] == "C" for k, g in keyed(d, "seg")
                                          for rec in g[1][s.m.get(("chk", k[1]), 0):]):
            return
        for k, _ in sorted(keyed(d, "seg")):
            if ("over", k[1]) not in s.m and self.reclaimable(s, k[1]):
                do("keeper saves what segment %d says" % k[1], lambda c, n=k[1]: self.save(c, n), False)

    def reclaimable(self, s, n, moved=()):
        d, x = s.d, s.x
        if not self.sealed(s, n) or x.get(("chk", n), -1) < self.limit(s.copy(), n):
            return False
        rows = {k[1]: row for k, row in keyed(x, "row")}
        if any(row[PLACE][0] == n and mid not in moved and (self.has("dsn-live") or mid[0] != "d") for mid, row in rows.items()):
            return False
        for it in (it for rec in d[("seg", n)][1] for it in rec):
            row = rows.get(it[1]) if it[0] in "TE" else None
            if row and it[0] == "T" and row[TRIES] == it[2] and (("att", it[1]) in x or row[DOUBT]):
                if self.has("open-attempt"):
                    return False
            if row and it[0] == "E" and row[NUMBER] == it[2] and self.has("edit-pin"):
                return False
        return True

    def save(self, c, n):
        """What segment n says of messages in segments that still stand, or that a power cut may bring back."""
        self.spend(c, "reclaim")
        d = c.d
        stands = {k[1] for k, _ in keyed(d, "seg")} | ({k[1] for k, _ in keyed(d, "ghost")} if self.has("ended-ghost") else set())
        said = {}
        for it in (it for rec in d[("seg", n)][1] for it in rec):
            if it[0] == "END" and self.has("end-saved"):
                said.setdefault(it[1], []).append(("END", it[2]))
            elif it[0] == "O" and it[3] in FINAL or it[0] == "T" and self.has("ended-try"):
                if ("row", it[1]) not in c.x and ("seg", it[-1][0]) and self.has("ended"):
                    said.setdefault(it[-1][0], []).append(("over", it[1]))
        for pn, entries in sorted(said.items()):
            if pn != n and pn in stands:
                self.ended_add(c, pn, entries)
        if self.w.get("fine_ended"):
            d[("saving", n)] = 1
        else:
            for e, v in keyed(d, "ended"):
                d[e] = (v[0], len(v[0]), 1)
            self.mark_over(c, n)

    def mark_over(self, c, n):
        c.d.pop(("saving", n), None)
        for m in (c.m, c.x):
            m.pop(("chk", n), None)
            if self.has("row-over"):
                m[("over", n)] = 1

    def unlink(self, c, n):
        d = c.d
        g = d[("ghost", n)] = d.pop(("seg", n))
        if not self.has("ended-last"):
            d.pop(("ended", n), None)
        if any(v == n for _, v in keyed(d, "cur")):
            raise Violation("segment %d unlinked under its living writer" % n)
        for k, row in keyed(c.x, "row"):
            if row[PLACE][0] == n:
                raise Violation("segment %d unlinked, but the row of %s points into it" % (n, k[1]))
        for it in (it for rec in g[1] for it in rec if it[0] == "M"):
            self.lost(c, d.get(("dsn", it[1]), it[1]))

    def unlinked(self, c, n):
        del c.d[("ghost", n)]
        c.d.pop(("ended", n), None)
        for m in (c.m, c.x):
            for what in ("over", "bad", "end"):
                m.pop((what, n), None)

    # ---------------------------------------------------------------- faults
    def forget(self, c, p, respawn=True):
        """A process and all it knew is gone."""
        d = c.d
        for k in [k for k in d if len(k) > 1 and k[1] == p and
                  k[0] in ("up", "cur", "st", "wait", "adopted", "batch", "owed", "tell", "snap", "drained")]:
            if k[0] in ("wait", "batch") and len(k) > 2:
                d[("cl", k[2])] = "unanswered"
            del d[k]
        d[("dead", p)] = 1
        if respawn:
            d[("up", p[0] + str(int(p[1:]) + 1))] = 1
        if p[0] == "K":
            c.m = dict(c.x)
            for k, _ in keyed(d, "saving"):
                del d[k]

    def pass_on(self, c, old, new):
        """An owner that never took the partition hands on what it waited for itself."""
        d = c.d
        waited = () if ("adopted", old) in d or not self.has("chain") else d.get(("before", old), ())
        d.pop(("before", old), None)
        d[("owner",)] = new
        d[("before", new)] = tuple(sorted(set(waited) | {old}))

    def dies(self, c, p):
        new = p[0] + str(int(p[1:]) + 1)
        if c.d[("owner",)] == p:
            self.pass_on(c, p, new)
        self.forget(c, p)

    def faults(self, s, ups, do):
        d = s.d
        for p in ups:
            budget = "keeper" if p[0] == "K" else "kill"
            if int(p[1:]) < 4 and ("left", budget) in d:
                def die(c, p=p, budget=budget):
                    self.spend(c, budget)
                    self.dies(c, p)
                do("%s dies" % ("the keeper" if p[0] == "K" else p), die, False)
            for k, v in [(k, v) for k, v in keyed(d, "st") if k[1] == p and v[0] == "att"] if ("left", "fault") in d else ():
                def fault(c, p=p, mid=k[2]):
                    self.spend(c, "fault")
                    c.d[("finger", p)] = mid
                    c.d[("faults", mid)] = c.d.get(("faults", mid), 0) + 1
                    self.dies(c, p)
                do("%s dies of %s" % (p, k[2]), fault, False)
        if ("left", "reload") in d and ("rebuild",) not in d:
            def reload(c):
                self.spend(c, "reload")
                p = c.d[("owner",)]
                self.pass_on(c, p, next(k for k in ups if k[0] not in ("K", p[0])))
            do("reload: the partition is to pass on", reload, False)
        if ("left", "lose") in d:
            def lose(c):
                self.spend(c, "lose")
                self.forget(c, next(p for p in ups if p[0] == "K"))
                c.x, c.m = {}, {}
                c.d[("rebuild",)] = 1
            do("the index is lost", lose, False)
        if ("left", "power") in d:
            self.power(s, ups, do)
        if ("left", "damage") in d:
            self.damage(s, do)

    def power(self, s, ups, do):
        d = s.d
        tails = [(k, range(g[2], len(g[1]) + 1)) for k, g in keyed(d, "seg") if g[2] < len(g[1])]
        ghosts = [(k, (0, 1)) for k, _ in keyed(d, "ghost")]
        ended = [(k, list(self.ended_survivals(*v))) for k, v in keyed(d, "ended") if v[1] < len(v[0]) or not v[2]]
        what = tails + ghosts + ended
        for pick in itertools.product(*(choices for _, choices in what)):
            def cut(c, pick=pick):
                self.spend(c, "power")
                for (k, _), keep in zip(what, pick):
                    self.survive(c, k, keep)
                for k, (w, recs, sy, mk, fl) in keyed(c.d, "seg"):
                    c.d[k] = (w, recs, len(recs), mk, 0)
                for k in [k for k in c.d if k[0] in ("hint", "finger")]:
                    del c.d[k]
                for p in ups:
                    self.dies(c, p)
            do("power cut; of what was not synced comes through: %s" % [(k, keep) for (k, _), keep in zip(what, pick)], cut, False)

    def survive(self, c, k, keep):
        if k[0] == "seg":
            w, recs, sy, mk, fl = c.d[k]
            c.d[k] = (w, recs[:keep], sy, min(mk, keep), 0)
        elif k[0] == "ghost":
            g = c.d.pop(k)
            if keep:
                c.d[("seg", k[1])] = g
            else:
                c.d.pop(("ended", k[1]), None)
        elif keep is None:
            del c.d[k]
        else:
            c.d[k] = keep

    def damage(self, s, do):
        """One record below its mark goes bad."""
        for k, (w, recs, sy, mk, fl) in keyed(s.d, "seg"):
            for i in range(min(sy, mk)):
                if recs[i] == X:
                    continue
                def rot(c, k=k, i=i):
                    self.spend(c, "damage")
                    w, recs, sy, mk, fl = c.d[k]
                    for it in recs[i]:
                        if it[0] in "MTOE":
                            c.d[("harm", it[1], it[0])] = 1
                    c.d[k] = (w, recs[:i] + (X,) + recs[i + 1:], sy, mk, fl)
                do("record %d of segment %d goes bad: %s" % (i, k[1], recs[i]), rot, False)

    # ---------------------------------------------------------------- promises
    def dsns(self, d, mid):
        return [k[1] for k, of in keyed(d, "dsn") if of == mid and len(k) == 2]

    def lost(self, s, mid):
        """Answered 250, or made by an outcome: on a disk until somebody else has it."""
        d = s.d
        if d.get(("cl", mid)) != "acked" or ("harm", mid, "M") in d:
            return
        family = [mid] + self.dsns(d, mid)
        if any(d.get(("dots", i)) or ("harm", i, "M") in d for i in family):
            return
        for _, (w, recs, sy, mk, fl) in keyed(d, "seg"):
            if any(("M", i) in rec for rec in recs[:sy] for i in family):
                return
        raise Violation("%s was answered 250 and is on no disk" % mid)

    def check(self, s, end):
        d = s.d
        for k, v in keyed(d, "cl"):
            if v != "acked":
                continue
            mid = k[1]
            self.lost(s, mid)
            if not end or any(("harm", i, "M") in d for i in [mid] + self.dsns(d, mid)):
                continue
            row = s.x.get(("row", mid))
            if d.get(("told", mid)) == "held" and not d.get(("dots", mid)):
                if not (row and row[ASIDE] == "held") and ("harm", mid, "E") not in d:
                    raise Violation("at the end %s is not held, as the console was told" % mid)
            elif row and row[ASIDE] != "q" and d.get(("told", mid)) == "q":
                raise Violation("at the end %s is %s, and was released" % (mid, row[ASIDE]))
            elif row and row[ASIDE] != "q":
                continue
            elif row:
                raise Violation("at the end %s still stands in the map, and nobody does anything" % mid)
            elif not any(d.get(("dots", i)) for i in [mid] + self.dsns(d, mid)):
                raise Violation("at the end %s is neither delivered, bounced nor queued to anyone" % mid)


# ---------------------------------------------------------------- running
def run(world, without=(), steps=80, most=2000000, trace=False, quiet=False):
    t0, model = time.process_time(), Model(world, without)
    first = model.first()
    seen, layer, depth, ends, bad, moves = {first.key(): None}, [first], 0, 0, None, 0
    while layer and depth < steps and not bad and len(seen) < most:
        following = []
        for s in layer:
            k, out = s.key(), model.steps(s)
            end = not any(must and (why or c.key() != k) for _, c, must, why in out)
            ends += end
            try:
                model.check(s, end)
            except Violation as v:
                bad = (k, None, str(v))
                break
            for words, c, _, why in out:
                moves += 1
                if why:
                    bad = (k, words, why)
                    break
                ck = c.key()
                if ck not in seen:
                    seen[ck] = (k, words)
                    following.append(c)
            if bad:
                break
        layer, depth = following, depth + 1
    if not quiet:
        how = "violation" if bad else "whole" if not layer else "BOUNDED"
        print("%-15s %8d states %9d steps %5d ends, depth %2d, %s (%.1f s)%s" % (
            world, len(seen), moves, ends, depth, how, time.process_time() - t0,
            " without " + ",".join(without) if without else ""), flush=True)
    if bad and trace:
        show(seen, bad)
    return len(seen), moves, bad


def show(seen, bad):
    words, k = [bad[1]] if bad[1] else [], bad[0]
    while seen[k]:
        k, w = seen[k]
        words.append(w)
    print("    " + bad[2])
    for i, w in enumerate(reversed(words), 1):
        print("    %2d. %s" % (i, w))


def worlds(names, without, trace):
    total = [0, 0, 0]
    for n in names:
        states, moves, bad = run(n, without, trace=trace or not without)
        total = [total[0] + states, total[1] + moves, total[2] + bool(bad)]
    print("worlds: %d, %d states, %d steps, %d violations" % (len(names), *total))
    return len(names), total[2]


def mutations(trace):
    unseen = 0
    for rule, (world, what) in RULES.items():
        bad = run(world, [rule], trace=trace, quiet=not trace)[2]
        print("  %-14s %-15s %s: %s" % (rule, world, what, bad[2] if bad else "NOT SEEN"), flush=True)
        unseen += not bad
    return len(RULES), unseen


def main(argv):
    names, without, flags, it = [], [], set(), iter(argv)
    for a in it:
        if a == "--without":
            without.append(next(it))
        elif a.startswith("--"):
            flags.add(a[2:])
        else:
            names.append(a)
    trace, run_all = "trace" in flags, not names and "mutations" not in flags
    if run_all:
        names = [n for n in WORLDS if "whole" in flags or n not in LONG]
    ran, failed = worlds(names, without, trace) if names else (0, 0)
    if run_all and not without or "mutations" in flags:
        more, unseen = mutations(trace)
        ran, failed = ran + more, failed + unseen
    print("%d passed, %d failed, 0 skipped" % (ran - failed, failed))
    return failed != 0


LONG = ("fold", "two", "two-power", "numbers", "remnant", "torn", "rebuild", "edit-rebuild", "handover", "failed", "failed-twice",
        "failed-reclaim", "bounce", "bounce-failed", "bounce-rebuild", "compact-defer", "compact-ghost", "compact-edit", "damage-failed")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
