/* doctor.h - is the service well? Checks that the console makes, each with a figure and, when it is not, what to do
 * verbs_doctor.c asks the others and prints; doctor_spool.c looks at disk, index and journals; doctor_service.c at
 * processes, limits, logs and clock. A check reads and changes nothing, but for one unnamed file that goes at once.
 * Owner: the command. Thread: the console's loop; a check may wait for the disk, which in the console harms nobody. */
#ifndef WORKER_CONSOLE_DOCTOR_H
#define WORKER_CONSOLE_DOCTOR_H

#include "worker/console/console_int.h"

/* The numbers are the exit status of impetusctl. */
enum doctor_grade { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_CRITICAL };

struct doctor {
	struct command *c;
	enum doctor_grade worst;
	bool taking_over; /* at the time of the report: see doctor_takes_over */
	usec_t began;     /* monotonic */
	/* what was asked */
	bool commit_asked, commit_there, dns_asked, dns_there;
	enum err commit, dns;
	usec_t commit_took;
	int64_t committed_at; /* monotonic seconds, before that was asked; 0: not since the keeper's start */
	struct bytes dns_said;
};

/* One line of the answer: advice is left out when all is well. */
void doctor_say(struct doctor *d, const char *check, enum doctor_grade grade, const char *advice, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* Bytes as people read them: "1.5 GiB". */
const char *doctor_size(uint64_t bytes, char out[24]);

/* doctor_spool.c */
void doctor_disk(struct doctor *d);
void doctor_index(struct doctor *d);
void doctor_last_commit(struct doctor *d);
void doctor_journals(struct doctor *d);
void doctor_mail(struct doctor *d);

/* doctor_service.c */
/* After a reload a generation takes over: what it still lacks is no finding. The keeper is one, so there is none for a
 * moment. */
bool doctor_takes_over(const struct role_env *env);
void doctor_processes(struct doctor *d);
void doctor_limits(struct doctor *d);
void doctor_logs(struct doctor *d);
void doctor_clock(struct doctor *d);

#endif
