#include "shm/base/err.h"

#include <stddef.h>

static const char *const err_texts[ERR_MAX] = {
	[OK] = "ok",
	[ERR_AGAIN] = "not yet",
	[ERR_EOF] = "the other side has ended",
	[ERR_IO] = "input/output error",
	[ERR_NOMEM] = "out of memory",
	[ERR_FULL] = "full",
	[ERR_SYNTAX] = "syntax error",
	[ERR_RANGE] = "out of range",
	[ERR_NOTFOUND] = "not found",
	[ERR_EXISTS] = "already exists",
	[ERR_DENIED] = "not permitted",
	[ERR_DAMAGED] = "damaged",
	[ERR_TIMEOUT] = "timed out",
	[ERR_STATE] = "not possible now",
	[ERR_UNSUPPORTED] = "not supported",
	[ERR_VERSION] = "written by another version",
};

const char *
err_text(enum err e)
{
	if ((unsigned)e >= ERR_MAX || err_texts[e] == NULL)
		return "unknown error";
	return err_texts[e];
}
