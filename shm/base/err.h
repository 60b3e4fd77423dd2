/* err.h - the one error convention of the house
 * Functions that act return enum err: 0 is OK. ERR_AGAIN is no failure ("not yet, you will be told") and is never
 * logged. Where an error is handled it is logged, once; errno's text is added by the log call. Questions return bool,
 * constructors a pointer. */
#ifndef SHM_BASE_ERR_H
#define SHM_BASE_ERR_H

enum err {
	OK = 0,
	ERR_AGAIN,       /* not yet: the caller is told later, or asks again */
	ERR_EOF,         /* the other side, or the file, has ended */
	ERR_IO,          /* the operating system refused; errno says why */
	ERR_NOMEM,       /* no memory */
	ERR_FULL,        /* a bound of ours or the disk is reached: 452 */
	ERR_SYNTAX,      /* what was given does not follow its grammar */
	ERR_RANGE,       /* well formed, but outside what is allowed */
	ERR_NOTFOUND,    /* nothing of that name, id or place */
	ERR_EXISTS,      /* there is one already */
	ERR_DENIED,      /* not permitted */
	ERR_DAMAGED,     /* bytes on disk are not what was written */
	ERR_TIMEOUT,     /* it took longer than its deadline */
	ERR_STATE,       /* not in this state */
	ERR_UNSUPPORTED, /* known, but not built */
	ERR_VERSION,     /* written by another version */
	ERR_MAX
};

/* A short lower-case text for e, never NULL. */
const char *err_text(enum err e);

#endif
