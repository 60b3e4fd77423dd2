/* spool_keeper_int.h - what the files of the keeper share
 * spool_keeper.c: open, turns, close; _scan.c: the folder; _read.c: records from files, how far they may be trusted;
 * _journal.c: the keeper's own segments; _ended.c: what is saved beside segments; _commit.c: the map's side of the
 * fold; _reclaim.c: rule 5; _compact.c: its mostly dead segments; _rebuild.c: rule 7; _audit.c: damage in
 * the map that nobody has met. */
#ifndef SPOOL_SPOOL_KEEPER_INT_H
#define SPOOL_SPOOL_KEEPER_INT_H

#include <bsd/sys/tree.h>

#include "spool/spool_disk.h"
#include "spool/spool_fold.h"
#include "spool/spool_index_write.h"
#include "spool/spool_keeper.h"
#include "spool/spool_segment.h"

/* A file of the journal's folder. */
struct kfile {
	RB_ENTRY(kfile) node;
	uint32_t number;
	struct segment_head head;
	int fd;         /* -1: not open */
	uint64_t round; /* of the scan that saw it last */
	bool bad;       /* no head that can be read: named once, left alone */
	bool learned;   /* its head and what it says of ends was told to the fold */
	bool told;      /* the fold knows it as sealed: nothing changes any more */
	bool sealed;
	bool toc, ended;     /* there is such a file beside it */
	uint64_t ended_room; /* up to this size the latter is only added to; 0: not written anew yet */
	uint32_t mark;       /* the highest that is known */
	bool copies;         /* its first record is a copy */
	uint32_t held;       /* messages that stood in it when it was last found not to be mostly dead; 0: never */
	bool left; /* its writer lives and has gone on to another one: all in it was synced, or an END speaks of it */
	uint64_t left_round; /* the scan before that was seen: after the next one such an END is known */
	bool sure;           /* a dead writer's: made sure of up to `limit` */
	uint32_t limit;
};
RB_HEAD(kfile_tree, kfile);
RB_PROTOTYPE(kfile_tree, kfile, node, kfile_cmp)

/* Writers seen in heads that are not yet settled. */
struct kwriter {
	uint64_t writer;
	bool dead; /* and was so before the last scan began, if `scanned` */
	bool scanned;
};

/* The last bytes read, so that many small records cost one read. */
struct kwindow {
	uint32_t seg;
	uint64_t off;
	size_t reach; /* so much is read at once; 0: default */
	struct bytes b;
};

struct keeper {
	struct keeper_conf conf;
	int dirfd; /* journal/ */
	int lockfd;
	struct index *index;
	struct fold *fold;
	struct index_txn *snap;   /* for the fold's questions; renewed by each commit */
	struct index_writer *out; /* while a commit is under way */
	struct kfile_tree files;
	unsigned open_files;
	struct kwriter *writers;
	size_t writers_n, writers_cap;
	struct kwindow window;
	struct bytes whole; /* a record with its blobs */
	struct fold_item *items;
	size_t items_cap;
	uint64_t round;
	usec_t scanned_at, now; /* monotonic */
	usec_t dirty_since, moved_at, swept_at, disk_at;
	struct disk disk; /* the reserve for the index: without a commit nothing is ever given back */
	unsigned spares;
	struct segment_maker maker; /* for the keeper's own segment */
	struct segment own;
	uint32_t own_off;    /* written and synced up to here */
	struct segment copy; /* where messages are moved to: it holds nothing else */
	uint32_t copy_off;
	usec_t compact_at;  /* not before */
	uint32_t compacted; /* the segment that was looked at last */
	msgid_t id_floor;   /* highest id of a map that was put aside */
	usec_t audit_at;    /* not before */
	bool suspicion;     /* of the pass that is under way: somebody met damage */
	bool broken;        /* the map is to be rebuilt */
	bool loaded;        /* the environment has been written to */
	bool urgent;        /* somebody waits for what was just folded */
	bool want_scan;     /* something waits for one */
	bool untidy;        /* a dead segment may have no table of contents yet */
	bool reclaim;       /* something may be over */
	bool waited;        /* a record waited in the last turn, too */
	uint64_t asked, answered;
	struct keeper_counts counts;
};

/* _scan.c */
struct kfile *kfile_find(struct keeper *k, uint32_t number);
void kfile_close(struct keeper *k, struct kfile *f);
void kfile_free(struct keeper *k, struct kfile *f);
/* The descriptor, opened if need be; -1 and errno. */
int kfile_fd(struct keeper *k, struct kfile *f);
/* Looks through the folder and shows the fold what is there. */
enum err keeper_scan(struct keeper *k);
/* A file that no scan has shown yet. */
enum err keeper_find(void *arg, uint32_t seg, struct fold_file *out);
/* What writers have published and sealed since; tells the fold. */
enum err keeper_look(struct keeper *k);
bool keeper_alive(struct keeper *k, uint64_t writer);
void keeper_forget_writer(struct keeper *k, uint64_t writer);

/* The next good record of this segment at or behind off; ERR_NOTFOUND. */
enum err keeper_resync(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, uint32_t *found);

/* _read.c: struct fold_world */
enum err keeper_limit(void *arg, uint32_t seg, uint32_t from, uint32_t *limit);
enum err keeper_record(void *arg, uint32_t seg, uint32_t off, uint32_t limit, struct fold_record *out);
/* Head, and meta behind it, of the record at off; n bytes of the file may be believed. */
enum err keeper_raw(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, struct record_head *h,
		    struct slice *head_and_meta);
void keeper_busy(struct keeper *k);

/* _journal.c */
/* Writes this edit to the keeper's own segment and syncs it. */
enum err keeper_write_edit(struct keeper *k, const struct spool_edit *e);
/* Writes these encoded records, whose places are still missing, where messages are moved to, and syncs them. */
enum err keeper_write_copies(struct keeper *k, struct bytes *records);
void keeper_journal_close(struct keeper *k);

/* _ended.c */
enum ended_kind { ENDED_MESSAGE = 1, ENDED_ATTEMPTS, ENDED_AT };
struct ended_entry {
	uint8_t kind; /* enum ended_kind */
	uint32_t seg; /* beside which it stands */
	uint32_t n;   /* attempts up to it, or the mark */
	msgid_t id;
};
/* Adds them (sorted by seg) to the files, synced with the directory when it returns OK. */
enum err ended_write(struct keeper *k, const struct ended_entry *list, size_t n);
/* Every good entry. */
enum err ended_read(struct keeper *k, uint32_t seg, enum err (*fn)(void *arg, const struct ended_entry *e), void *arg);
enum err keeper_ended(void *arg, uint32_t seg, enum err (*fn)(void *, msgid_t id, uint32_t n), void *fn_arg);

/* _commit.c */
extern const struct fold_world keeper_world;
/* What is folded becomes durable. */
enum err keeper_commit(struct keeper *k);
void keeper_drop_snapshot(struct keeper *k);
/* Gives e again. A map that cannot be read, or contradicts itself, is built anew from the journals by the next turn. */
enum err keeper_judge(struct keeper *k, enum err e);

/* _reclaim.c */
enum err keeper_reclaim(struct keeper *k);
/* Writes the table of contents of a dead writer's segment beside it. */
enum err keeper_toc(struct keeper *k, struct kfile *f);

/* What must stand beside segments before the commit. */
enum err keeper_save_moved(struct keeper *k);

/* _compact.c */
/* Moves the messages out of one segment that is mostly dead, if there is one and it is time. */
enum err keeper_compact(struct keeper *k);

/* _audit.c */
/* Looks through a piece of the map, if it is time. */
enum err keeper_audit(struct keeper *k);

/* _rebuild.c */
bool keeper_unreadable(enum err e);
/* Puts a map that cannot be read aside. */
enum err keeper_open_index(struct keeper *k);
enum err keeper_rebuild(struct keeper *k);

#endif
