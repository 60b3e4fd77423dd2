#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

/* A smaller file is not worth a copy. */
#define COMPACT_LEAST (UINT64_C(64) << 20)

/* ---- a map that cannot be read ---- */

/* Under another name first: who has it open keeps a whole one and sees that there is a new one. */
static enum err
put_aside(const char *folder)
{
	struct bytes old = { 0 };
	enum err e = OK;

	bytes_addf(&old, "%s.old", folder);
	index_remove_files(bytes_cstr(&old));
	if (fault_fails("index.aside") || (rename(folder, bytes_cstr(&old)) != 0 && errno != ENOENT))
		e = ERR_IO;
	else
		index_remove_files(bytes_cstr(&old));
	bytes_fini(&old);
	return e;
}

bool
keeper_unreadable(enum err e)
{
	return e == ERR_DAMAGED || e == ERR_VERSION || e == ERR_SYNTAX;
}

/* Opens the map and loads the fold. No map, or a bad one: an empty one, and broken is set. */
static enum err
open_and_load(struct keeper *k)
{
	struct index_conf conf = {
		.path = k->conf.index_path, .map_size = k->conf.index_size, .keeper = true, .suspect = k->conf.suspect
	};
	struct index_txn *t = NULL;
	enum err e = index_open(&conf, &k->index);

	if (e == OK)
		e = index_compact(k->index, COMPACT_LEAST);
	if (e != OK)
		return e;
	e = index_begin(k->index, &t);
	if (e == OK)
		e = index_load(t, k->fold);
	index_end(&t);
	k->loaded = e == OK && !fold_rebuilding(k->fold);
	k->broken = !k->loaded; /* none, or one whose rebuild was cut short: from the start */
	return e == ERR_AGAIN ? OK : e;
}

enum err
keeper_open_index(struct keeper *k)
{
	enum err e = k->conf.distrust ? ERR_DAMAGED : open_and_load(k);

	if (!keeper_unreadable(e))
		return e;
	log_error("keeper", "the index %s (%s): it is put aside and built anew",
		  k->conf.distrust ? "has ended who read it" : "cannot be read", err_text(e));
	index_close(&k->index);
	fold_free(&k->fold);
	k->fold = fold_new(&keeper_world, k);
	e = put_aside(k->conf.index_path);
	return e == OK ? open_and_load(k) : e;
}

/* Damage that shows while we run: the environment is replaced, the fold begins anew. */
static enum err
replace_index(struct keeper *k)
{
	enum err e;

	keeper_drop_snapshot(k);
	if (fold_highest_id(k->fold) > k->id_floor)
		k->id_floor = fold_highest_id(k->fold);
	index_clear_suspicion(k->index);
	k->suspicion = false;
	index_close(&k->index);
	e = put_aside(k->conf.index_path);
	fold_free(&k->fold);
	k->fold = fold_new(&keeper_world, k);
	return e == OK ? open_and_load(k) : e;
}

/* ---- rule 7 ---- */

static void
forget_files(struct keeper *k)
{
	struct kfile *f;

	RB_FOREACH (f, kfile_tree, &k->files)
		f->learned = f->told = false;
}

enum err
keeper_rebuild(struct keeper *k)
{
	enum err e = OK;

	if (!RB_EMPTY(&k->files))
		log_warn("keeper", "the index is built anew from the journals; mail is accepted meanwhile");
	fault_point("rebuild.begin");
	if (k->loaded)
		e = replace_index(k);
	k->loaded = true; /* if this does not succeed, not with the same file again */
	if (e == OK)
		e = segment_dir_sync(k->dirfd);
	if (e != OK)
		return e;
	k->broken = false;
	forget_files(k);
	fold_rebuild(k->fold);
	e = keeper_scan(k);
	if (e == OK)
		e = keeper_commit(k);
	if (e == OK)
		e = fold_rebuild_ended(k->fold);
	k->broken = e != OK;
	return e;
}
