#include "policy/policy.h"

#define ANSWERS (RESULT_CONT | RESULT_DONE | RESULT_AGAIN)
#define TALKS   (MAY_CODE | MAY_TARPIT)

const struct policy_phase_row policy_phases[PHASE_MAX] = {
	[PHASE_CONNECT] = { .name = "connect",
			    .callout = "validate_connect",
			    .params = { PARAM_AC, PARAM_VCTX },
			    .may = TALKS | MAY_CAPABILITY,
			    .results = ANSWERS },
	[PHASE_EHLO] = { .name = "ehlo",
			 .callout = "validate_ehlo",
			 .params = { PARAM_STR, PARAM_AC, PARAM_VCTX },
			 .may = TALKS | MAY_CAPABILITY,
			 .results = ANSWERS },
	[PHASE_MAILFROM] = { .name = "mailfrom",
			     .callout = "validate_mailfrom",
			     .params = { PARAM_STR, PARAM_AC, PARAM_VCTX },
			     .may = TALKS,
			     .results = ANSWERS },
	[PHASE_RCPTTO] = { .name = "rcptto",
			   .callout = "validate_rcptto",
			   .params = { PARAM_MSG, PARAM_STR, PARAM_AC, PARAM_VCTX },
			   .may = TALKS | MAY_SENDER | MAY_DISCARD,
			   .results = ANSWERS },
	[PHASE_DATA] = { .name = "data",
			 .callout = "validate_data",
			 .params = { PARAM_MSG, PARAM_AC, PARAM_VCTX },
			 .may = TALKS | MAY_SENDER | MAY_CONTENT | MAY_READ | MAY_DISCARD,
			 .results = ANSWERS },
	[PHASE_DATA_SPOOL] = { .name = "data_spool",
			       .callout = "validate_data_spool",
			       .params = { PARAM_MSG, PARAM_AC, PARAM_VCTX },
			       .may = TALKS | MAY_SENDER | MAY_CONTENT | MAY_READ | MAY_DISCARD,
			       .results = ANSWERS },
	[PHASE_EACH_RCPT] = { .name = "data_spool_each_rcpt",
			      .callout = "validate_data_spool_each_rcpt",
			      .params = { PARAM_MSG, PARAM_AC, PARAM_VCTX },
			      .may = MAY_CODE | MAY_SENDER | MAY_RCPT | MAY_CONTENT | MAY_READ | MAY_DISCARD |
				     MAY_ROUTE,
			      .results = ANSWERS },
	/* The reply, the content and the discarding of a message are decided before it is given a way out. */
	[PHASE_SET_BINDING] = { .name = "set_binding",
				.callout = "validate_set_binding",
				.params = { PARAM_MSG },
				.may = MAY_SENDER | MAY_RCPT | MAY_READ | MAY_ROUTE | MAY_BINDING,
				.results = RESULT_CONT | RESULT_DONE },
	[PHASE_FINAL] = { .name = "final_validation",
			  .callout = "core_final_validation",
			  .params = { PARAM_MSG, PARAM_AC, PARAM_VCTX },
			  .may = MAY_CODE | MAY_CONTENT | MAY_READ,
			  .results = RESULT_NONE },
};

bool
policy_phase_by_callout(struct slice callout, enum policy_phase *out)
{
	for (int i = 0; i < PHASE_MAX; i++) {
		if (slice_eq(callout, slice_str(policy_phases[i].callout))) {
			*out = (enum policy_phase)i;
			return true;
		}
	}
	return false;
}
