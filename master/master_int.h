/* master_int.h - what the files of the master share: one struct master, and who does what with it
 *   supervise.c    children: started, watched, reaped, started again
 *   switchboard.c  packets between children
 *   reload.c       a new revision and generation beside the old one
 *   shutdown.c     the way out
 *   master.c       start, signals, the loop
 * The master only supervises: it never opens LMDB, runs no script, parses nothing that a child or a peer can write.
 * Memory that it asks for itself is checked. Thread: one. */
#ifndef MASTER_MASTER_INT_H
#define MASTER_MASTER_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "master/logs.h"
#include "master/revision.h"
#include "master/roles.h"
#include "master/trial.h"
#include "shm/shm_area.h"
#include "shm/shm_request.h"

/* ---- children ---- */

enum seat_state {
	SEAT_EMPTY,   /* nobody there, nobody wanted */
	SEAT_LIVE,    /* a process is there */
	SEAT_WAITING, /* it died; its successor comes at respawn_at */
};

/* A slot from the master's side. */
struct seat {
	enum seat_state state;
	bool wanted; /* when it ends it is to be started again */
	uint32_t generation;
	struct revision *rev; /* what a successor gets; borrowed from the master */
	unsigned died_young;  /* times in a row */
	usec_t respawn_at;
	/* while SEAT_LIVE */
	pid_t pid;
	uint64_t serial;             /* of this life, in the roll */
	struct req_channel *channel; /* NULL: it has closed its end, or is being ended */
	struct req_meter meter;
	unsigned questions; /* open ones it has asked */
	bool ready;
	usec_t born;
	usec_t kill_at; /* 0: no deadline; then SIGKILL */
	bool barked;    /* the watchdog has sent SIGABRT */
};

/* A question that is on its way through the switchboard. */
struct question {
	LIST_ENTRY(question) link;
	uint64_t asker, answerer; /* serials of lives; asker 0: it died, the answer is dropped */
	int asker_slot, answerer_slot;
	uint16_t type;
	uint32_t seq;
};

/* ---- reload ---- */

enum reload_state {
	RELOAD_NONE,
	RELOAD_TRIAL,    /* the throwaway child is at it */
	RELOAD_STARTING, /* the new generation is coming up */
};

struct reload {
	enum reload_state state;
	bool again; /* asked for once more meanwhile */
	struct trial trial;
	struct revision *next;
	usec_t until;        /* the new generation is up by then, or it is given up */
	struct bytes report; /* the lines, for the console */
	bool asked;          /* by the console: this question waits for the answer */
	uint64_t asker;      /* its serial */
	struct req_head question;
};

enum master_phase {
	MASTER_STARTING, /* the first generation is coming up */
	MASTER_SERVING,
	MASTER_DRAINING, /* workers end; the keeper and the console still serve */
	MASTER_ENDING,   /* the keeper and the console end */
};

struct master {
	const char *conf_path; /* absolute */
	bool foreground;
	bool privileged;
	enum master_phase phase;
	struct revision *rev;     /* in force */
	uint32_t generation;      /* in force */
	uint32_t last_generation; /* the highest there was */
	struct identity id;       /* of the start; a change needs a restart */
	char *spool_path;         /* likewise */
	int spool_dirfd;          /* locked as long as any process of ours has it */
	struct shm_area *area;
	struct logs logs;
	struct seat seats[SLOTS_MAX];
	LIST_HEAD(, question) questions;
	struct reload reload;
	usec_t until; /* of the drain */
	bool fast;    /* INT: end now */
	int signal_fd;
	int ready_fd; /* -1, or where the starting parent waits for our word */
	usec_t started;
};

/* ---- supervise.c ---- */

/* Forks the child of a seat whose slot is free, by seat.rev and seat.generation. */
void seat_start(struct master *m, int slot);
/* Waits for everybody who has died. */
void supervise_reap(struct master *m);
/* Those due are started again, the silent are ended, deadlines are kept. */
void supervise_tick(struct master *m, usec_t now);
/* The earliest moment at which supervise_tick has something to do. */
usec_t supervise_next(const struct master *m, usec_t now);
/* Sends REQ_DRAIN and sets the deadline; its seat is not filled again. */
void seat_drain(struct master *m, int slot, unsigned seconds);
/* Sends REQ_STOP, with a deadline of 5 s; its seat is not filled again. */
void seat_stop(struct master *m, int slot);
/* Its doing is against the table: it is killed. */
void seat_violates(struct master *m, int slot, const char *what);
unsigned seats_live(const struct master *m, enum role role, uint32_t generation); /* generation 0: of any */
unsigned seats_ready(const struct master *m, enum role role, uint32_t generation);
/* A notice of the master to one child; a full or dead channel is the child's misfortune. */
void seat_tell(struct master *m, int slot, enum req_type type, struct slice payload);
/* New log descriptors for all. */
void supervise_hand_logs(struct master *m);
/* Gives every partition to the workers of the generation in force. */
void supervise_share_partitions(struct master *m);

/* ---- switchboard.c ---- */

/* Takes all packets that wait from this child. */
void switchboard_turn(struct master *m, int slot);
/* A life is over: what was asked of it is answered ERR_EOF, what it asked is forgotten. */
void switchboard_forget(struct master *m, int slot);
/* Answers a question that was put to the master. */
void switchboard_answer(struct master *m, uint64_t asker, const struct req_head *question, enum err status,
			struct slice text);

/* ---- reload.c ---- */

/* asked NULL: by a signal. */
void reload_begin(struct master *m, int slot, const struct req_head *asked);
void reload_tick(struct master *m, usec_t now);
/* The trial's process was reaped. */
void reload_trial_ended(struct master *m, int status);
/* Gives up what is under way: we are ending. */
void reload_cancel(struct master *m);
/* Slots for a generation's workers are taken and their children started; false: not enough are free. */
bool generation_start(struct master *m, struct revision *rev, uint32_t generation);

/* ---- shutdown.c ---- */

void shutdown_begin(struct master *m, bool fast);
/* True: everybody is gone. */
bool shutdown_tick(struct master *m, usec_t now);

/* ---- master.c ---- */

void master_reopen_logs(struct master *m);

#endif
