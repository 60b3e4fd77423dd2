#!/usr/bin/python3
"""mutations.py [--seeds N] [--jobs N] [NAME...]: breaks the product's rules one at a time and lets t/sim/test_year_sim.c find
out: each mutation is compiled into a copy of the test, nothing in the tree is changed. Prints which invariant noticed first,
and at which seed; fails if a mutation is not noticed by any, or if some invariant is never seen to fail.

A mutation is a file, a piece of it that stands there once, what stands there instead, and the invariant it is meant for."""
import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
TEST, OUT = "t/sim/test_year_sim.c", "build/test"
OWNER, TWICE, EXPIRY, LIMITS, NEXT, ORDER, STARVES, OPERATOR = (
    "one owner", "no second delivery", "expiry", "throttles and limits", "a next time", "order", "nobody starves", "the operator")
# What the invariants say (year_check.h, sim_map.h, sim_life.h).
WORDS = {
    OWNER: "two owners|by who has it not|has ended, and is tried",
    TWICE: "is delivered twice|left before its attempt",
    EXPIRY: "past its deadline|before its deadline|outlives its deadline|after its last try",
    LIMITS: "throttle is exceeded|connections of|connections, where|are not exact|messages in hand",
    NEXT: "no next time|into the past|nobody takes it|nothing becomes of it|not all of the mail ends|it never ends",
    ORDER: "out of order|overtakes",
    STARVES: "starves",
    OPERATOR: "held, and begun|of a suspended queue|was failed",
}
LOOK, SCHED, QUEUE = "spool/spool_owner_look.c", "spool/sched.c", "worker/delivery/delivery_queue.c"
PERMIT, JOB, VERB = "worker/delivery/delivery_permit.c", "worker/delivery/delivery_job.c", "spool/spool_owner_verb.c"
MUTATIONS = {
    "a reload waits for nobody": (LOOK, "w->generation < o->env.generation)", "w->generation < 0)", OWNER),
    "the dead are not waited for": (
        LOOK, "want_one_before(l, &(struct look_before){ .writer = life.writer, .since = life.ended_mono });", "", OWNER),
    "borrowers of the dead are not waited for": (LOOK, "want_borrowers(o, l, &life, who);", "(void)want_borrowers;", OWNER),
    "the gate is never closed": (
        "spool/spool_owner.c", "	if (m->revoked || msg->queue->o->draining)\n		return false;\n", "", OWNER),
    "handed on with attempts unsaid": ("spool/spool_owner_hand.c", "if (!o->handing || o->unsaid > 0)", "if (!o->handing)", OWNER),
    "a loan is dropped when its borrower dies": (
        "spool/spool_owner_lend.c", "p->ended && p->n_lent > 0 && l->n_gone < SLOTS_MAX", "false", NEXT),
    "the dot goes before the attempt is synced": (
        JOB, "	if (spool_submit(txn, on_attempt_synced, j) == OK)\n",
        "	smtp_client_dot(j->conn->client);\n	if (spool_submit(txn, on_attempt_synced, j) == OK)\n", TWICE),
    "a doubt is tried without its name": (LOOK, "load_row(o, q, row, true);", "load_row(o, q, row, false);", TWICE),
    "too old one moment late": (SCHED, "if (now >= sched_deadline(r, received))", "if (now > sched_deadline(r, received))", EXPIRY),
    "nothing is too old": (SCHED, "if (now >= sched_deadline(r, received))", "if (now < 0)", EXPIRY),
    "too old a second early": (
        SCHED, "if (now >= sched_deadline(r, received))", "if (now >= sched_deadline(r, received) - USEC_PER_SEC)", EXPIRY),
    "a deadline an hour later": (
        SCHED, "received + (usec_t)r->message_expiration * USEC_PER_SEC",
        "received + ((usec_t)r->message_expiration + 3600) * USEC_PER_SEC", EXPIRY),
    "one try too many": (SCHED, "retries >= (uint32_t)r->max_retries", "retries > (uint32_t)r->max_retries", EXPIRY),
    "nobody looks at deadlines": (
        JOB, "sched_deadline(&retry, j->got->message.received_at) <= now", "now < 0", EXPIRY),
    "one more than the throttle": (QUEUE, "key, rate.n, rate.seconds", "key, rate.n + 1, rate.seconds", LIMITS),
    "what the throttle refused is taken": (QUEUE, "	return got;\n}\n\nstatic void\nunthrottle", "	return n;\n}\n\nstatic void\nunthrottle", LIMITS),
    "each domain has a throttle of its own": (
        QUEUE, "uint64_t origin = conf_origin(v, OPT_OUTBOUND_THROTTLE_MESSAGES);", "uint64_t origin = (uint64_t)(uintptr_t)v;", LIMITS),
    "permits are not given back": (PERMIT, "if ((taken & 1u << i) != 0)", "if (taken == UINT32_MAX)", LIMITS),
    "permits of a binding are not given back": (PERMIT, "if ((taken & 1u << i) != 0)", "if (i != PERMIT_BINDING && (taken & 1u << i) != 0)", LIMITS),
    "permits are not taken": (
        PERMIT, "	if (d->env.limits == NULL)\n		return PERMIT_ALL;\n	permits_of(q, &p);\n", "	permits_of(q, &p);\n	return PERMIT_ALL;\n", LIMITS),
    "one connection more than the queue may have": (PERMIT, "(uint32_t)max },", "(uint32_t)max + 1 },", LIMITS),
    "one connection more than the server may have": (
        PERMIT, "OPT_SERVER_MAX_OUTBOUND_CONNECTIONS) } }", "OPT_SERVER_MAX_OUTBOUND_CONNECTIONS) + 1 } }", LIMITS),
    "one message more in hand": (QUEUE, "if (d->njobs >= d->resident ||", "if (d->njobs > d->resident ||", LIMITS),
    "tried again since it came, not since now": (SCHED, "usec_t next = now + (usec_t)", "usec_t next = received + (usec_t)", NEXT),
    "intervals grow for ever": (SCHED, "	return s < cap ? s : cap;", "	(void)cap;\n	return s * 2;", NEXT),
    "the last try is not before the end": (
        SCHED, "return next > deadline && deadline > now ? deadline : next;", "(void)deadline;\n	return next;", NEXT),
    "what is due is not found": (LOOK, "	if (q->due || (q->mems > 0 &&", "	if (true || q->due || (q->mems > 0 &&", NEXT),
    "a wait never ends": (SCHED, "q->wait_until <= now_mono)", "q->wait_until < 0)", NEXT),
    "the newest first": (
        SCHED, "	if (a->due != b->due)\n		return a->due < b->due ? -1 : 1;",
        "	if (a->at == SCHED_READY && a->due != b->due)\n		return a->due > b->due ? -1 : 1;\n"
        "	if (a->due != b->due)\n		return a->due < b->due ? -1 : 1;", ORDER),
    "no priority": (SCHED, "a->at == SCHED_READY && a->priority != b->priority", "false", ORDER),
    "what is loaded last is sent first": (
        QUEUE, "TAILQ_INSERT_TAIL(&q->waiting, j, link);", "TAILQ_INSERT_HEAD(&q->waiting, j, link);", ORDER),
    "room is never seen": (SCHED, "sched_room(struct sched *s)\n{\n	s->full = false;", "sched_room(struct sched *s)\n{\n	(void)s;", STARVES),
    "nobody tells of room": (
        "worker/delivery/delivery.c", "		d->full = false;\n		owner_room(d->env.owner);", "		d->full = false;", STARVES),
    "what the operator wants does not close the gate": (
        VERB, "	m->revoked = true;\n	if (m->state == MSG_LENT)\n		loan_recall(o, m);\n	if (m->state == MSG_LOADED ||",
        "	if (m->state == MSG_LENT)\n		loan_recall(o, m);\n	if (m->state == MSG_LOADED ||", OPERATOR),
    "nothing is suspended": ("spool/spool_owner.c", "sched_suspend(&o->sched, &q->sched, is);", "sched_suspend(&o->sched, &q->sched, false);", OPERATOR),
    "what is failed lives": (LOOK, "		if (clock_real() >= q->errand_after)\n", "		if (clock_real() < 0)\n", OPERATOR),
}


def variables():
    """CFLAGS_ALL and LIBS of the test build."""
    text = "include Makefile\nshow:\n\t@echo '$(CFLAGS_ALL)'\n\t@echo '$(LIBS)'\n"
    out = subprocess.run(["make", "-s", "O=" + OUT, "-f", "-", "show"], cwd=TOP, input=text, stdout=subprocess.PIPE, text=True, check=True)
    return [line.replace('\\"', '"').split() for line in out.stdout.splitlines()]


def compiled(source, to, flags):
    subprocess.run(["gcc"] + [f for f in flags if f != "-Werror"] + ["-w", "-c", "-o", str(to), str(source)], cwd=TOP, check=True)
    return str(to)


def mutated(folder, name, test, flags, libs):
    """A test program with that one file broken: its object comes before the archives."""
    path, old, new, _ = MUTATIONS[name]
    text = (TOP / path).read_text()
    if text.count(old) != 1:
        raise SystemExit("%s: stands %d times in %s: %s" % (name, text.count(old), path, old))
    source, program = folder / "mutant.c", folder / "mutant"
    source.write_text(text.replace(old, new))
    archives = [str(a) for a in sorted((TOP / OUT / "lib").glob("*.a"))]
    objects = [test, compiled(source, folder / "mutant.o", flags)]
    subprocess.run(["gcc", "-o", str(program)] + objects + ["-Wl,--start-group"] + archives + ["-Wl,--end-group"] + libs + ["-lcmocka"],
                   cwd=TOP, check=True)
    return program


def verdict(program, seeds):
    """(invariant or None, what was said)"""
    try:
        p = subprocess.run([str(program)], cwd=TOP, env={"YEAR_SEEDS": str(seeds)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, errors="replace", timeout=300)
    except subprocess.TimeoutExpired:
        return None, "it never ends"
    said = re.search(r"^seed (\d+) at .*", p.stdout, re.M)
    if said is None:
        return None, "nothing" if p.returncode == 0 else "no invariant: " + (p.stdout.strip().splitlines() or ["?"])[-1]
    found = [i for i, words in WORDS.items() if re.search(words, said[0])]
    return (found or [None])[0], said[0]


def one(name, seeds, test, flags, libs):
    with tempfile.TemporaryDirectory(prefix="impetus-mutant-") as folder:
        return (name,) + verdict(mutated(pathlib.Path(folder), name, test, flags, libs), seeds)


def run(names, seeds, jobs):
    """Each name with what noticed it."""
    flags, libs = variables()
    with tempfile.TemporaryDirectory(prefix="impetus-mutant-") as folder:
        test = compiled(TEST, pathlib.Path(folder) / "test.o", flags)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(lambda name: one(name, seeds, test, flags, libs), names)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seeds", type=int, default=100)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("names", nargs="*", default=list(MUTATIONS))
    a = p.parse_args()
    subprocess.run(["make", "-s", "-j2", "O=" + OUT, "libs"], cwd=TOP, check=True)
    bad, seen = 0, set()
    for name, invariant, said in run(a.names, a.seeds, a.jobs):
        meant = MUTATIONS[name][3]
        seen.add(invariant)
        bad += invariant is None
        print("%-48s %-21s %s%s" % (name, invariant or "NOT NOTICED", said, "" if invariant in (None, meant) else " [meant for: %s]" % meant),
              flush=True)
    never = [i for i in WORDS if i not in seen] if len(a.names) == len(MUTATIONS) else []
    for i in never:
        print("never seen to fail: " + i)
    print("mutations: %d passed, %d failed" % (len(a.names) - bad, bad + len(never)))
    sys.exit(1 if bad or never else 0)


if __name__ == "__main__":
    main()
