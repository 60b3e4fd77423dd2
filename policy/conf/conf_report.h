/* conf_report.h - collecting what is found while a configuration is read (inside policy/conf only)
 * A position borrows its file name from the configuration's arena; a report copies what it keeps, since reports outlive
 * a configuration that failed. */
#ifndef POLICY_CONF_CONF_REPORT_H
#define POLICY_CONF_CONF_REPORT_H

#include "policy/conf/conf.h"

struct conf_pos {
	const char *file;
	unsigned line, column; /* from 1; 0: the file as a whole */
};

/* After a few hundred reports further ones are only counted. */
void conf_report(struct conf_errors *errs, enum conf_severity severity, struct conf_pos pos, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
