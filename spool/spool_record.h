/* spool_record.h - records as they stand on disk: encoded here, and checked here, by writer and keeper alike
 * A record is an atom: one or more items that become true together, or not at all. It is
 *     head, RECORD_HEAD bytes | meta: the items | blob table | inline blobs | zeroes up to a multiple of 8
 * All numbers are little-endian. The head names its own segment and offset, so old bytes of a reused file never pass
 * for a record. head_crc covers the head, meta_crc the items, table_crc the blob table, which has the CRC of each blob:
 * who needs only the items reads no blob, who needs one blob reads only that one.
 *
 * - head: u32 magic, u8 type, u8 flags (0), u16 items, u32 meta_len, u32 blob_len (table and inline blobs), u32 seg,
 *   u32 off, u32 mark, u32 meta_crc, u32 table_crc, u64 id_high, u32 head_crc
 * - item: u8 kind, u8 version, u32 len, then len bytes of fields
 * - blob table, only if blob_len > 0: u32 count, then for each: u8 where, u8[3] 0, u32 seg, u64 off, u64 len, u32 crc
 *
 * Pure: bytes in, struct out; no I/O. Any thread. What is decoded borrows from the bytes it was decoded from.
 * Errors: ERR_NOTFOUND no record of this place here (zeroes, old bytes); ERR_DAMAGED it is one, but not as it was
 * written (torn above the mark, rotten below it: the caller knows which); ERR_VERSION a kind or version not known
 * here. */
#ifndef SPOOL_SPOOL_RECORD_H
#define SPOOL_SPOOL_RECORD_H

#include "shm/base/err.h"
#include "spool/spool_id.h"

enum {
	RECORD_HEAD = 48,
	RECORD_ALIGN = 8,
	RECORD_META_MAX = 32 << 20,  /* longer is damage */
	RECORD_BLOBS_MAX = 64 << 20, /* table and inline bytes; longer is damage */
	RECORD_ITEMS_MAX = 65535,
	BLOB_NONE = 0xffff,          /* "no such blob", and so the greatest count of blobs */
	BLOB_INLINE_MAX = 256 << 10, /* a body above this goes into a segment of its own */
};

/* Where a record begins. {0, 0} is nowhere: segments are numbered from 1. */
struct place {
	uint32_t seg;
	uint32_t off;
};

/* What a record is about: its dominating item. A record with an outcome is never a RECORD_MESSAGE, so RECORD_MESSAGE
 * says that a session waits for it and that a failed sync drops it; every other type is repeated then. */
enum record_type {
	RECORD_MESSAGE = 1, /* messages that a session, or a script, brings in */
	RECORD_ATTEMPT,
	RECORD_OUTCOME, /* also with the DSN it makes: a message item, origin generated */
	RECORD_EDIT,
	RECORD_HANDOVER,
	RECORD_END,
	RECORD_COPY, /* the keeper's: a copied message, its state before it */
	RECORD_TOC,  /* table of contents; the last record of a segment that its writer sealed, or the whole of a .toc
			file */
	RECORD_TYPE_MAX
};

struct record_head {
	enum record_type type;
	uint16_t items;
	uint32_t meta_len, blob_len;
	struct place at;
	uint32_t mark; /* synced up to here in this segment when it was written: below it a bad CRC is damage */
	uint32_t meta_crc, table_crc;
	msgid_t id_high; /* highest id its writer had made */
};

/* Length on disk, with the zeroes behind: the next record begins at at.off + this. */
uint64_t record_size(const struct record_head *h);

/* ---------------------------------------------------------------- items */

enum item_kind {
	ITEM_MESSAGE = 1,
	ITEM_ATTEMPT,
	ITEM_OUTCOME,
	ITEM_EDIT,
	ITEM_HANDOVER,
	ITEM_END,
	ITEM_COPY,
	ITEM_KIND_MAX
};

enum { ORIGIN_ACCEPTED = 1, ORIGIN_GENERATED = 2 };
enum { PROTOCOL_ESMTP = 1, PROTOCOL_INTERNAL = 2 };
enum {                        /* spool_message.flags */
       MSG_8BITMIME = 1 << 0, /* BODY=8BITMIME was declared */
       MSG_SMTPUTF8 = 1 << 1,
       MSG_NUL = 1 << 2, /* a NUL byte is in it */
       MSG_DSN = 1 << 3, /* it is a bounce of ours */
};
enum { /* spool_message.notify, RFC 3461; 0: not given */
       NOTIFY_NEVER = 1,
       NOTIFY_SUCCESS = 2,
       NOTIFY_FAILURE = 4,
       NOTIFY_DELAY = 8,
};

/* One recipient of one mail transaction. Facts, not decisions: no route, limit or deadline. The message on the wire is
 * the header blob and then the body blob, nothing between them; the empty line begins the body (format/header.h). */
struct spool_message {
	msgid_t id, batch, conn; /* batch: the same for all recipients of one transaction */
	usec_t received_at;      /* real clock */
	usec_t due;              /* real clock; not tried before then, as policy wished; 0: at once */
	uint8_t origin, protocol, priority, notify;
	uint16_t flags;
	struct slice sender;              /* without brackets; empty is the null sender */
	struct slice rcpt;                /* without brackets */
	struct slice orcpt, envid, ret;   /* RFC 3461, as given; may be empty */
	struct slice binding;             /* name; the queue is (binding, domain) */
	struct slice domain;              /* the routing domain, lower case */
	struct slice peer;                /* "address:port" of the client; empty if generated */
	uint64_t size;                    /* header and body */
	uint16_t header_blob, body_blob;  /* numbers in this record's blob table; BLOB_NONE: empty */
	uint16_t conn_ctx_blob, ctx_blob; /* connection and message dictionary, as policy serialized them */
};

/* Delivery has begun: written before the final dot is sent. n counts from 1 and only rises. */
struct spool_attempt {
	msgid_t id;
	uint32_t n;
	uint16_t item; /* the message's item number in the record at `place` */
	struct place place;
	usec_t at; /* real clock */
};

enum outcome_kind {
	OUTCOME_DELIVERED = 1,
	OUTCOME_DEFERRED, /* back in the queue, due at next_due */
	OUTCOME_BOUNCED,  /* failed for good, with or without a DSN */
	OUTCOME_EXPIRED,
	OUTCOME_DISCARDED,
	OUTCOME_DOUBTFUL, /* the connection broke after the final dot */
	OUTCOME_KIND_MAX
};

/* True of delivered, bounced, expired, discarded: the message is over. */
bool outcome_is_final(enum outcome_kind kind);

struct spool_outcome {
	msgid_t id;
	uint32_t n; /* the attempt's; none was written (no connection, expired in the queue): the next one's */
	uint16_t item;
	uint8_t kind;  /* enum outcome_kind */
	uint8_t stage; /* where in the dialogue; delivery's own numbers */
	struct place place;
	usec_t at, next_due; /* real clock; next_due only if deferred */
	struct slice text;   /* remote reply or our reason */
	struct slice remote; /* "address:port" of the far side; may be empty */
};

enum edit_action {
	EDIT_HOLD = 1,
	EDIT_QUARANTINE,
	EDIT_RELEASE, /* from hold, quarantine or doubt, back into its queue */
	EDIT_RETRY,   /* due now */
	EDIT_FAIL,    /* to be bounced by its owner */
	EDIT_DROP,    /* to be discarded by its owner */
	EDIT_FINGER,  /* a worker died by its own fault while at it; reason is the peer if id_lo is 0 */
	EDIT_ACTION_MAX
};

/* One message: id_lo == id_hi and its place. A range: every message with id_lo <= id <= id_hi that has this binding and
 * domain (empty: any); place {0, 0}. */
struct spool_edit {
	msgid_t id_lo, id_hi;
	uint8_t action; /* enum edit_action */
	uint16_t item;
	struct place place;
	usec_t at;
	struct slice binding, domain, reason;
};

/* "All that I had from `owner` but these, which are in work." owner is the writer number of the process whose
 * partitions these were: the record's own writer when it hands its partitions on, a dead owner's when it had borrowed
 * from it. */
struct spool_handover {
	uint64_t owner;
	uint32_t count;
	struct slice ids; /* count ids of 8 bytes: handover_id */
};

msgid_t handover_id(const struct spool_handover *h, uint32_t i);

/* Segment seg ends at mark, whatever stands behind: its sync failed. */
struct spool_end {
	uint32_t seg;
	uint32_t mark;
};

/* Stands before the MESSAGE item of a RECORD_COPY: the same message, formerly at `from`, and what had become of it. */
struct spool_copy {
	msgid_t id;
	struct place from;
	uint16_t from_item;
	uint8_t state; /* the keeper's numbers */
	uint32_t tries;
	usec_t due;
	struct slice reason;
};

struct spool_item {
	enum item_kind kind;
	union {
		struct spool_message message;
		struct spool_attempt attempt;
		struct spool_outcome outcome;
		struct spool_edit edit;
		struct spool_handover handover;
		struct spool_end end;
		struct spool_copy copy;
	};
};

/* The queue's number, the same in every process and version: its partition is this % PARTITIONS (shm_area.h). ASCII
 * case of the domain does not count. */
uint64_t spool_queue_hash(struct slice binding, struct slice domain);

/* ---------------------------------------------------------------- reading */

/* `bytes`: at least RECORD_HEAD bytes read at `at` (fewer: ERR_NOTFOUND). */
enum err record_head_read(struct slice bytes, struct place at, struct record_head *out);
/* `meta`: meta_len bytes from at.off + RECORD_HEAD. OK or ERR_DAMAGED. */
enum err record_meta_check(const struct record_head *h, struct slice meta);

/* At so many bytes of these, a multiple of RECORD_ALIGN, and at none before, a record may begin: for the search behind
 * damage. Up to all but the last RECORD_HEAD - 1. */
size_t record_skip(struct slice bytes);

struct item_reader {
	struct slice rest;
	uint16_t number; /* of the next item */
	uint16_t left;
};

void item_reader_init(struct item_reader *r, const struct record_head *h, struct slice meta);
/* OK: an item, borrowing from meta; its number was r->number before the call. ERR_EOF: there are no more. ERR_DAMAGED,
 * ERR_VERSION: this and what follows cannot be read. */
enum err item_next(struct item_reader *r, struct spool_item *out);
/* Only item number n. ERR_NOTFOUND: the record has fewer. */
enum err item_get(const struct record_head *h, struct slice meta, uint16_t n, struct spool_item *out);

enum { BLOB_INLINE = 1, BLOB_BODY = 2 };

struct blob_ref {
	uint8_t where; /* BLOB_INLINE: off counts from the start of the record; BLOB_BODY: in segment seg, off from its
			  start */
	uint32_t seg;
	uint64_t off, len;
	uint32_t crc;
};

/* Bytes of the blob table of n blobs. */
uint64_t blob_table_size(uint32_t n);
/* `table`: from at.off + RECORD_HEAD + meta_len, at least 4 bytes: how many blobs there are. ERR_DAMAGED: that does not
 * fit into blob_len. */
enum err blob_table_count(const struct record_head *h, struct slice table, uint32_t *count);
/* `table`: the whole table, blob_table_size bytes. Checks it against table_crc and gives blob n: ERR_NOTFOUND if there
 * are fewer, ERR_DAMAGED. */
enum err blob_table_get(const struct record_head *h, struct slice table, uint16_t n, struct blob_ref *out);
/* OK or ERR_DAMAGED. */
enum err blob_check(const struct blob_ref *ref, struct slice bytes);
/* Everything: head, items, table and every inline blob of the record that begins at bytes.p. What the keeper asks of a
 * record above the last mark. */
enum err record_check(struct slice bytes, struct place at, struct record_head *out);

/* ---------------------------------------------------------------- writing */

/* A record in the making. All zero is an empty one. Items are encoded when added; inline blobs are borrowed until
 * record_encode. */
struct record {
	struct bytes meta;
	uint32_t items;
	uint64_t inline_len;
	struct record_blob *blobs;
	uint32_t blobs_n, blobs_cap;
	enum record_type type; /* of the items so far */
};

struct record_blob {
	struct blob_ref ref;
	const char *p; /* inline bytes, borrowed */
};

/* Empty again; keeps its memory. */
void record_reset(struct record *r);
void record_fini(struct record *r);
/* Gives the blob's number; BLOB_NONE if there are BLOB_NONE of them already. An empty blob has a number too. */
uint16_t record_add_blob(struct record *r, struct slice bytes);
uint16_t record_add_body(struct record *r, uint32_t seg, uint64_t off, uint64_t len, uint32_t crc);
/* Changes blob n, made by record_add_body with zeroes, when the body is complete. */
void record_set_body(struct record *r, uint16_t n, uint32_t seg, uint64_t off, uint64_t len, uint32_t crc);
void record_add_message(struct record *r, const struct spool_message *m);
void record_add_attempt(struct record *r, const struct spool_attempt *a);
void record_add_outcome(struct record *r, const struct spool_outcome *o);
void record_add_edit(struct record *r, const struct spool_edit *e);
void record_add_handover(struct record *r, uint64_t owner, const msgid_t *ids, uint32_t count);
void record_add_end(struct record *r, const struct spool_end *e);
void record_add_copy(struct record *r, const struct spool_copy *c);
/* OK; ERR_RANGE: too many items, too long, or none. */
enum err record_fits(const struct record *r);
/* Length of the encoded record, a multiple of RECORD_ALIGN. */
uint64_t record_encoded_size(const struct record *r);
/* Writes it to out (that many bytes). Its place is still missing: record_seal. */
void record_encode(const struct record *r, char *out);
/* Writes place, mark and id_high into an encoded record, and head_crc: the last step. May be done again for another
 * place. */
void record_seal(char *encoded, struct place at, uint32_t mark, msgid_t id_high);
/* Length and type of an encoded record. */
uint64_t record_size_of(const char *encoded);
enum record_type record_type_of(const char *encoded);

/* ---------------------------------------------------------------- table of contents */

/* One item of a segment, in the order of the journal. */
struct toc_entry {
	msgid_t id;   /* id_lo of an edit, owner of a handover, segment of an end */
	uint32_t off; /* of its record */
	uint16_t item;
	uint8_t kind;   /* enum item_kind */
	uint8_t what;   /* outcome_kind, edit_action; of a message its origin; else 0 */
	uint64_t queue; /* spool_queue_hash of a message; else 0 */
};

enum { TOC_ENTRY = 24 };

/* Adds the items of an encoded, sealed record to a growing table. */
void toc_add_record(struct bytes *entries, const char *encoded);
/* Adds one entry. */
void toc_add(struct bytes *entries, const struct toc_entry *e);
/* The whole RECORD_TOC for a table, sealed for `at` ({seg, 0} in a .toc file). */
void toc_encode(struct slice entries, struct place at, uint32_t mark, msgid_t id_high, struct bytes *out);
/* `bytes` begins with the record: its entries. ERR_NOTFOUND, ERR_DAMAGED. */
enum err toc_decode(struct slice bytes, struct place at, struct slice *entries);
uint32_t toc_count(struct slice entries);
void toc_get(struct slice entries, uint32_t i, struct toc_entry *out);

#endif
