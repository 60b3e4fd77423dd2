/* shm_counters.h - the list of all counters and gauges, one row each
 * X(NAME, kind, text): CELL_NAME is the cell's index, text its name on the console and in metrics. A COUNTER only rises
 * and outlives its process (a dead child's are added to the cell of the dead); a GAUGE says what is now and is
 * cleared when its process dies. Each cell is written by its own process only, from any of its threads.
 * A new row goes to the end of its group; nothing else has to be touched. */
#ifndef SHM_SHM_COUNTERS_H
#define SHM_SHM_COUNTERS_H

#define SHM_CELLS(X)                                                                                            \
	X(SESSIONS_IN, GAUGE, "sessions_in")           /* inbound sessions open */                              \
	X(SESSIONS_OUT, GAUGE, "sessions_out")         /* outbound connections open */                          \
	X(QUEUES, GAUGE, "queues")                     /* queues this worker holds */                           \
	X(MESSAGES_ACTIVE, GAUGE, "messages_active")   /* due, waiting or on a connection */                    \
	X(MESSAGES_IN_WORK, GAUGE, "messages_in_work") /* attempt written, no outcome yet */                    \
	X(JOURNAL_WAITING, GAUGE, "journal_waiting")   /* records that wait for a sync */                       \
	X(TAIL_BYTES, GAUGE, "tail_bytes")             /* keeper: journal not yet committed */                  \
	X(TAIL_SEEN, GAUGE, "tail_seen")               /* keeper: journal_bytes when it last said tail_bytes */ \
	X(TAIL_MESSAGES, GAUGE, "tail_messages")       /* keeper: net messages in that tail */                  \
	X(COMMITTED_AT, GAUGE, "committed_at")         /* keeper: its last commit, monotonic seconds */         \
	X(INDEX_MESSAGES, GAUGE, "index_messages")     /* keeper: LMDB's count of rows */                       \
	X(SEGMENTS, GAUGE, "segments")                 /* keeper: segment files that stand */                   \
	X(IN_DOUBT, GAUGE, "in_doubt")                 /* keeper: attempts in doubt now */                      \
	X(QUARANTINED, GAUGE, "quarantined")           /* keeper: messages quarantined now */                   \
	X(SPOOL_REFUSING, GAUGE, "spool_refusing")     /* 1 while new mail gets 452 */                          \
	X(CONTENT_BYTES, GAUGE, "content_bytes")       /* messages in memory, not yet on disk */                \
	X(LUA_BYTES, GAUGE, "lua_bytes")               /* memory of the Lua state */                            \
	X(POLICY_WAITING, GAUGE, "policy_waiting")     /* script hooks that wait for something */               \
	X(LOOP_LOAD, GAUGE, "loop_load")               /* of a core, in thousandths */                          \
	X(MESSAGES_LENT, GAUGE, "messages_lent")       /* with another worker just now */                       \
	X(CONNECTIONS_IN, COUNTER, "connections_in")   /* accepted */                                           \
	X(CONNECTIONS_REFUSED, COUNTER, "connections_refused")   /* 421 at the banner, or closed */             \
	X(TRANSACTIONS_IN, COUNTER, "transactions_in")           /* answered 250 after DATA */                  \
	X(RECIPIENTS_IN, COUNTER, "recipients_in")               /* of those: recipients */                     \
	X(BYTES_IN, COUNTER, "bytes_in")                         /* of those: bytes of messages */              \
	X(REJECTED_TEMP, COUNTER, "rejected_temporary")          /* 4xx said to a client */                     \
	X(REJECTED_PERM, COUNTER, "rejected_permanent")          /* 5xx said to a client */                     \
	X(GENERATED, COUNTER, "generated")                       /* messages of ours: DSNs */                   \
	X(CONNECTIONS_OUT, COUNTER, "connections_out")           /* connected */                                \
	X(CONNECTIONS_OUT_FAILED, COUNTER, "connections_failed") /* could not connect, or lost early */         \
	X(ATTEMPTS, COUNTER, "attempts")                         /* recipients tried */                         \
	X(DELIVERED, COUNTER, "delivered")                       /* recipients */                               \
	X(DEFERRED, COUNTER, "deferred")                                                                        \
	X(BOUNCED, COUNTER, "bounced")                                                                          \
	X(EXPIRED, COUNTER, "expired")                                                                          \
	X(DISCARDED, COUNTER, "discarded")                                                                      \
	X(DOUBTFUL, COUNTER, "doubtful")   /* connection lost after the final dot */                            \
	X(BYTES_OUT, COUNTER, "bytes_out") /* of messages delivered */                                          \
	X(JOURNAL_RECORDS, COUNTER, "journal_records")                                                          \
	X(JOURNAL_BYTES, COUNTER, "journal_bytes")                                                              \
	X(JOURNAL_SYNCS, COUNTER, "journal_syncs")                                                              \
	X(JOURNAL_SYNC_FAILURES, COUNTER, "journal_sync_failures")                                              \
	X(LENT, COUNTER, "lent")                     /* messages to another worker */                           \
	X(BORROWED, COUNTER, "borrowed")             /* and taken by that one */                                \
	X(HINTS_SENT, COUNTER, "hints_sent")         /* to other workers */                                     \
	X(HINTS_LOST, COUNTER, "hints_lost")         /* the inbox was full: found in the map */                 \
	X(COLD_READS, COUNTER, "cold_reads")         /* bodies that were not in memory */                       \
	X(DAMAGED, COUNTER, "damaged")               /* records with a false CRC below a mark */                \
	X(KEEPER_RECORDS, COUNTER, "keeper_records") /* folded */                                               \
	X(KEEPER_COMMITS, COUNTER, "keeper_commits")                                                            \
	X(KEEPER_ROWS, COUNTER, "keeper_rows")         /* rows written to the index */                          \
	X(DNS_QUERIES, COUNTER, "dns_queries")         /* sent */                                               \
	X(DNS_FROM_CACHE, COUNTER, "dns_from_cache")   /* not sent: known */                                    \
	X(POLICY_RUNS, COUNTER, "policy_runs")         /* script hooks begun */                                 \
	X(SCRIPT_ERRORS, COUNTER, "script_errors")     /* of these: a refusal of ours */                        \
	X(SCRIPT_OVERRUNS, COUNTER, "script_overruns") /* of these: a budget was spent */                       \
	X(LOG_LINES, COUNTER, "log_lines")             /* made, over all logs */                                \
	X(LOG_DROPPED, COUNTER, "log_dropped")         /* of these: the log disk was full or too slow */        \
	X(CONSOLE_COMMANDS, COUNTER, "console_commands")

enum cell {
#define SHM_CELL_ENUM(name, kind, text) CELL_##name,
	SHM_CELLS(SHM_CELL_ENUM)
#undef SHM_CELL_ENUM
		CELL_MAX
};

enum cell_kind { CELL_IS_COUNTER, CELL_IS_GAUGE };

enum cell_kind cell_kind(enum cell c);
/* The text of the row. */
const char *cell_name(enum cell c);

#endif
