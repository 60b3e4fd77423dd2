/* spool_faults.h - the named points of the spool, for tests that visit all of them
 * X(NAME): at these the process can be killed (fault_point). E(NAME): these can fail with an errno (fault_error,
 * fault_fails); "file.write" can also write less than it was given (fault_short). A test compares this list with the
 * sources. At "owner.busy" nothing fails: the owner lends as if its loop had no time. Those of LMDB ("lmdb.CALL") stand
 * in shm/shm_lmdb.c, that of memory ("mem.alloc") in shm/base/mem.c. */
#ifndef SPOOL_SPOOL_FAULTS_H
#define SPOOL_SPOOL_FAULTS_H

#define SPOOL_FAULT_POINTS(X)      \
	X("journal.before_write")  \
	X("journal.after_write")   \
	X("journal.before_sync")   \
	X("journal.after_sync")    \
	X("journal.after_mark")    \
	X("journal.before_end")    \
	X("segment.after_create")  \
	X("segment.before_rename") \
	X("segment.after_rename")  \
	X("segment.after_dirsync") \
	X("segment.before_toc")    \
	X("segment.before_seal")   \
	X("segment.after_seal")    \
	X("body.before_write")     \
	X("body.before_sync")      \
	X("body.after_sync")       \
	X("submit.before_done")    \
	X("keeper.before_sync")    \
	X("fold.before_commit")    \
	X("fold.after_commit")     \
	X("reclaim.before_ended")  \
	X("ended.before_sync")     \
	X("ended.before_rename")   \
	X("ended.after_rename")    \
	X("reclaim.after_ended")   \
	X("reclaim.after_over")    \
	X("reclaim.before_unlink") \
	X("reclaim.after_unlink")  \
	X("reclaim.after_dirsync") \
	X("seal.before_toc")       \
	X("compact.before_write")  \
	X("compact.before_sync")   \
	X("compact.after_sync")    \
	X("compact.after_commit")  \
	X("rebuild.begin")         \
	X("rebuild.before_commit")

#define SPOOL_FAULT_ERRORS(E) \
	E("file.read")        \
	E("file.write")       \
	E("segment.list")     \
	E("segment.open")     \
	E("segment.create")   \
	E("segment.fill")     \
	E("segment.sync")     \
	E("segment.rename")   \
	E("segment.dirsync")  \
	E("segment.seal")     \
	E("seal.sync")        \
	E("spare.take")       \
	E("spare.make")       \
	E("journal.write")    \
	E("journal.sync")     \
	E("body.create")      \
	E("body.write")       \
	E("body.sync")        \
	E("read.cold")        \
	E("keeper.lock")      \
	E("keeper.open")      \
	E("keeper.sync")      \
	E("keeper.own_sync")  \
	E("compact.sync")     \
	E("index.commit")     \
	E("index.rename")     \
	E("index.dirsync")    \
	E("index.aside")      \
	E("ended.open")       \
	E("ended.sync")       \
	E("ended.anew")       \
	E("ended.read")       \
	E("reclaim.unlink")   \
	E("toc.open")         \
	E("toc.sync")         \
	E("disk.free")        \
	E("disk.reserve")     \
	E("owner.busy")

#endif
