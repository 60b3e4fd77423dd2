/* doctor_spool.c - disk, index, journals, and mail that waits for a decision */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "spool/spool_disk.h"
#include "spool/spool_segment.h"
#include "worker/console/doctor.h"

enum {
	PAGE = 256,
	DAMAGE_MOST = 10000,     /* stretches that are counted */
	SLOW_SYNC_MS = 1000,     /* of one small file */
	READERS_NEAR = 200,      /* of the 256 that the index has room for */
	COMPACT_LEAST_MIB = 256, /* a smaller index is not worth a word */
	LATE_COMMIT_SECONDS = 8, /* a keeper that is well commits within 2 of what it reads */
};

static const uint64_t TAIL_MUCH = UINT64_C(64) << 20, TAIL_MOST = UINT64_C(256) << 20;

/* ---- disk ---- */

static void
space(struct doctor *d)
{
	const struct role_env *env = d->c->console->env;
	uint64_t least = (uint64_t)conf_int(conf_global(env->conf), OPT_SPOOL_FREE_MIN), free_bytes;
	enum doctor_grade g = DOCTOR_OK;
	char is[24], below[24];
	struct statvfs v;

	if (fstatvfs(env->spool_dirfd, &v) != 0) {
		doctor_say(d, "spool_space", DOCTOR_CRITICAL, "look at the disk", "cannot be asked: %s",
			   strerror(errno));
		return;
	}
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	if (free_bytes < least || shm_total(env->area, CELL_SPOOL_REFUSING) > 0)
		g = DOCTOR_CRITICAL;
	else if (free_bytes < 2 * least || (v.f_files > 0 && v.f_favail < v.f_files / 100))
		g = DOCTOR_WARNING;
	doctor_say(d, "spool_space", g,
		   "make room: below spool_free_min new mail is refused with 452, outcomes are still written",
		   "%s free, spool_free_min is %s, %llu of %llu files free%s", doctor_size(free_bytes, is),
		   doctor_size(least, below), (unsigned long long)v.f_favail, (unsigned long long)v.f_files,
		   shm_total(env->area, CELL_SPOOL_REFUSING) > 0 ? "; new mail is being refused" : "");
}

static bool
writes_spool(const struct shm_slot *s)
{
	struct slot_who who;

	return slot_who(s, &who) && who.state == SLOT_SERVING && (who.role == ROLE_WORKER || who.role == ROLE_KEEPER);
}

/* Each process that writes has its own. One that is without is well as long as there is room: outcomes are what would
 * find none. */
static void
reserve(struct doctor *d)
{
	const struct role_env *env = d->c->console->env;
	int dirfd = openat(env->spool_dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned processes = 0, without = 0;
	bool refusing = shm_total(env->area, CELL_SPOOL_REFUSING) > 0;
	char size[24];

	if (dirfd < 0)
		return; /* said by folders */
	for (int slot = 0; slot < SLOTS_MAX; slot++) {
		uint64_t bytes = 0;

		if (!writes_spool(shm_slot(env->area, slot)))
			continue;
		processes++;
		without += disk_reserved(dirfd, slot, &bytes) != OK || bytes < DISK_RESERVE;
	}
	close(dirfd);
	doctor_say(d, "reserve",
		   without == 0 ? DOCTOR_OK
		   : refusing   ? DOCTOR_CRITICAL
				: DOCTOR_WARNING,
		   "make room: it is made again when so much and spool_free_min are free; till then a full disk has no "
		   "room for outcomes",
		   "%u of %u processes hold %s for outcomes and the index", processes - without, processes,
		   doctor_size(DISK_RESERVE, size));
}

static void
folders(struct doctor *d)
{
	static const char *const names[] = { ".", "journal", "index", "state" };
	int dirfd = d->c->console->env->spool_dirfd;
	struct stat st;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (fstatat(dirfd, names[i], &st, 0) != 0 ||
		    faccessat(dirfd, names[i], R_OK | W_OK | X_OK, AT_EACCESS) != 0) {
			doctor_say(d, "spool_folders", DOCTOR_CRITICAL,
				   "give the spool and all below it to the user of the security stanza",
				   "%s cannot be used: %s", names[i], strerror(errno));
			return;
		}
		if ((st.st_mode & S_IWOTH) != 0) {
			doctor_say(d, "spool_folders", DOCTOR_WARNING, "chmod o-w", "%s: everybody may write there",
				   names[i]);
			return;
		}
	}
	doctor_say(d, "spool_folders", DOCTOR_OK, "", "there, and writable");
}

/* A file without a name: it is gone with its descriptor, whatever happens here. */
static void
sync_time(struct doctor *d)
{
	static const char block[4096] = "doctor";
	int fd = openat(d->c->console->env->spool_dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	usec_t began = clock_mono();
	long long ms;
	bool ok;

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		doctor_say(d, "disk", DOCTOR_OK, "", "not tried: this file system has no unnamed files");
		return;
	}
	ok = fd >= 0 && write(fd, block, sizeof block) == (ssize_t)sizeof block && fdatasync(fd) == 0;
	ms = (long long)((clock_mono() - began) / USEC_PER_MS);
	if (!ok)
		doctor_say(d, "disk", DOCTOR_CRITICAL, "look at the disk and at the kernel's log",
			   "a small file cannot be written and synced: %s", strerror(errno));
	else
		doctor_say(d, "disk", ms > SLOW_SYNC_MS ? DOCTOR_WARNING : DOCTOR_OK,
			   "the disk is overloaded, or failing: a 250 waits as long as a sync",
			   "4 KiB written and synced in %lld ms; %lld of %lld journal syncs have failed", ms,
			   (long long)shm_total(d->c->console->env->area, CELL_JOURNAL_SYNC_FAILURES),
			   (long long)shm_total(d->c->console->env->area, CELL_JOURNAL_SYNCS));
	if (fd >= 0)
		close(fd);
}

void
doctor_disk(struct doctor *d)
{
	space(d);
	reserve(d);
	folders(d);
	sync_time(d);
}

/* ---- index ---- */

static void
usage(struct doctor *d)
{
	struct index_usage u;
	enum doctor_grade g = DOCTOR_OK;
	enum err e = index_usage(d->c->console->index, &u);
	const char *advice = "";
	char size[24];

	if (e != OK) {
		doctor_say(d, "index_file", DOCTOR_WARNING, "ask again", "cannot be measured: %s", err_text(e));
		return;
	}
	if (u.stale > 0 || u.readers > READERS_NEAR) {
		g = DOCTOR_WARNING;
		advice = "the keeper clears dead readers; a living one that stays makes the file grow: restart the "
			 "console";
	} else if (u.file_bytes >> 20 >= COMPACT_LEAST_MIB && u.free_bytes > u.file_bytes / 4 * 3) {
		g = DOCTOR_WARNING;
		advice = "nothing is wrong; a restart makes the file small again";
	}
	doctor_say(d, "index_file", g, advice, "%s, %u %% of it free, %u readers, %u of them dead",
		   doctor_size(u.file_bytes, size),
		   u.file_bytes == 0 ? 0 : (unsigned)(u.free_bytes * 100 / u.file_bytes), u.readers, u.stale);
}

void
doctor_index(struct doctor *d)
{
	struct console *k = d->c->console;
	struct index_meta m;
	struct index_txn *t;
	enum err e = index_begin(k->index, &t);

	if (e == OK) {
		e = index_meta(t, &m);
		index_end(&t);
	}
	if (e == ERR_AGAIN || (e == OK && m.rebuilding)) {
		doctor_say(d, "index", DOCTOR_WARNING,
			   "wait: the keeper is building it; new mail is accepted and delivered meanwhile",
			   e == OK ? "being rebuilt" : "not there yet");
		return;
	}
	if (e != OK) {
		doctor_say(d, "index", DOCTOR_CRITICAL,
			   "if it stays so: stop, move the folder index aside, start; it is made anew from the "
			   "journals",
			   "cannot be read: %s", err_text(e));
		return;
	}
	doctor_say(d, "index", DOCTOR_OK, "", "readable, commit %llu", (unsigned long long)m.commits);
	usage(d);
}

/* Synced by its writer and not yet folded into the index: by their own marks, not by the keeper's word. */
static uint64_t
waiting_in(struct index_txn *t, const struct shm_slot *s)
{
	struct index_segment known;
	uint32_t seg, mark, from = SEGMENT_HEAD;

	if (!writes_spool(s))
		return 0;
	slot_mark(s, &seg, &mark);
	if (seg != 0 && index_segment_get(t, seg, &known) == OK && known.folded > from)
		from = known.folded;
	return mark > from ? mark - from : 0;
}

/* A keeper that has nothing to commit commits nothing, so the age alone is no finding. */
void
doctor_last_commit(struct doctor *d)
{
	struct console *k = d->c->console;
	bool fine = d->commit_there && d->commit == OK;
	long long age = (long long)(d->began / USEC_PER_SEC - d->committed_at);
	long long late = (long long)((clock_mono() - d->began) / USEC_PER_SEC) + age;
	enum doctor_grade g = DOCTOR_OK;
	uint64_t waits = 0;
	struct index_txn *t;
	char when[64], size[24];

	if (index_begin(k->index, &t) != OK)
		return; /* said by doctor_index */
	for (int slot = 0; slot < SLOTS_MAX; slot++)
		waits += waiting_in(t, shm_slot(k->env->area, slot));
	index_end(&t);
	if (!fine && waits > 0 && !d->taking_over)
		g = d->committed_at == 0 || late > LATE_COMMIT_SECONDS ? DOCTOR_CRITICAL : DOCTOR_WARNING;
	if (d->committed_at == 0)
		snprintf(when, sizeof when, "none since the keeper's start");
	else
		snprintf(when, sizeof when, "%lld s before this was asked", age > 0 ? age : 0);
	doctor_say(d, "last_commit", g,
		   "see keeper: mail flows on; a restart, or the loss of the index, reads again what is not in it",
		   "%s, %s written since wait for the next", when, doctor_size(waits, size));
}

/* ---- journals ---- */

/* Files that no row stands for: just made, or, when they stay, forgotten. */
static unsigned
files_without_row(struct console *k, struct index_txn *t)
{
	int fd = openat(k->env->spool_dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned n = 0;
	struct dirent *e;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((e = readdir(dir)) != NULL) {
		struct index_segment s;
		size_t len = strlen(e->d_name);
		uint64_t number;

		if (len > 4 && strcmp(e->d_name + len - 4, ".seg") == 0 &&
		    slice_u64(slice_of(e->d_name, len - 4), UINT32_MAX, &number) &&
		    index_segment_get(t, (uint32_t)number, &s) == ERR_NOTFOUND)
			n++;
	}
	closedir(dir);
	return n;
}

struct damage {
	uint64_t stretches, recipients;
};

static void
count_damage(struct index_txn *t, struct damage *out)
{
	struct index_damage page[PAGE];
	struct place after = { 0, 0 };
	size_t n = 0;

	*out = (struct damage){ 0, 0 };
	while (out->stretches < DAMAGE_MOST && index_damage_page(t, after, page, PAGE, &n) == OK && n > 0) {
		for (size_t i = 0; i < n; i++)
			out->recipients += page[i].recipients;
		out->stretches += n;
		after = page[n - 1].place;
	}
}

static void
tail(struct doctor *d)
{
	int64_t bytes = shm_total(d->c->console->env->area, CELL_TAIL_BYTES);
	uint64_t n = bytes > 0 ? (uint64_t)bytes : 0;
	char is[24];

	doctor_say(d, "journal_tail",
		   n >= TAIL_MOST   ? DOCTOR_CRITICAL
		   : n >= TAIL_MUCH ? DOCTOR_WARNING
				    : DOCTOR_OK,
		   "see keeper: above 256 MiB new mail is slowed, then refused", "%s not yet in the index",
		   doctor_size(n, is));
}

void
doctor_journals(struct doctor *d)
{
	struct console *k = d->c->console;
	struct damage damage;
	struct index_txn *t;
	unsigned without;

	tail(d);
	if (index_begin(k->index, &t) != OK)
		return; /* said by doctor_index */
	without = files_without_row(k, t);
	count_damage(t, &damage);
	index_end(&t);
	doctor_say(d, "journal_files", without > SLOTS_MAX ? DOCTOR_WARNING : DOCTOR_OK,
		   "the keeper does not get to them: see the paniclog",
		   "%lld segments stand, %u not yet known to the index",
		   (long long)shm_total(k->env->area, CELL_SEGMENTS), without);
	doctor_say(d, "journal_damage", damage.stretches > 0 ? DOCTOR_WARNING : DOCTOR_OK,
		   "the disk has changed what was written: look at it; the bytes are kept, the paniclog names them",
		   "%llu damaged stretches, %llu recipients in them", (unsigned long long)damage.stretches,
		   (unsigned long long)damage.recipients);
}

/* ---- mail that somebody has to decide on ---- */

void
doctor_mail(struct doctor *d)
{
	struct console *k = d->c->console;
	struct index_counts n = { 0 };
	struct index_ledger l = { 0 };
	struct index_txn *t;
	int64_t off;
	enum err e = index_begin(k->index, &t);

	if (e != OK)
		return;
	e = index_totals(t, &n);
	if (e == OK)
		e = index_ledger(t, &l);
	index_end(&t);
	if (e != OK) {
		doctor_say(d, "mail", DOCTOR_WARNING, "ask again", "cannot be counted: %s", err_text(e));
		return;
	}
	off = index_ledger_difference(&l);
	doctor_say(d, "mail",
		   off != 0                                     ? DOCTOR_CRITICAL
		   : n.in[ROW_QUARANTINED] + n.in[ROW_HELD] > 0 ? DOCTOR_WARNING
								: DOCTOR_OK,
		   off != 0 ? "mail is unaccounted for: keep the spool and the logs, and report it"
			    : "impetusctl quarantine list, indoubt list",
		   "%llu queued, %llu in work, %llu in doubt, %llu held, %llu quarantined, ledger difference %lld",
		   (unsigned long long)n.in[ROW_QUEUED], (unsigned long long)n.in[ROW_WORK],
		   (unsigned long long)n.in[ROW_DOUBT], (unsigned long long)n.in[ROW_HELD],
		   (unsigned long long)n.in[ROW_QUARANTINED], (long long)off);
}
