/* drop_row - removes the first row of the index's message table behind everybody's back: drop_row INDEXDIR
 * For the test that the ledger shows it. Exit 1 when there is none. */
#include <lmdb.h>
#include <stdio.h>

static int
drop(MDB_txn *txn)
{
	MDB_dbi dbi;
	MDB_cursor *c;
	MDB_val k, v;
	int rc;

	if ((rc = mdb_dbi_open(txn, "message+crc32c", 0, &dbi)) != 0 || (rc = mdb_cursor_open(txn, dbi, &c)) != 0)
		return rc;
	if ((rc = mdb_cursor_get(c, &k, &v, MDB_FIRST)) == 0)
		rc = mdb_cursor_del(c, 0);
	mdb_cursor_close(c);
	return rc;
}

int
main(int argc, char **argv)
{
	MDB_env *env;
	MDB_txn *txn;
	int rc;

	if (argc != 2 || mdb_env_create(&env) != 0)
		return 2;
	mdb_env_set_maxdbs(env, 32);
	mdb_env_set_mapsize(env, (size_t)1 << 34);
	if ((rc = mdb_env_open(env, argv[1], 0, 0640)) == 0 && (rc = mdb_txn_begin(env, NULL, 0, &txn)) == 0) {
		if ((rc = drop(txn)) == 0)
			rc = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	if (rc != 0)
		fprintf(stderr, "drop_row: %s\n", mdb_strerror(rc));
	mdb_env_close(env);
	return rc != 0;
}
