#include "handoff/stamp_alarm.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"

static const char *const words[STAMP_N_REASONS] = {
        [STAMP_OK] = "has no stamp: does the MTA ask bindpost-milter (smtpd_milters, non_smtpd_milters)?",
        [STAMP_SYNTAX] =
                "has a stamp that cannot be read: does something between the milter and here change it?",
        [STAMP_TWO] = "has several stamps: does something beside bindpost-milter add one?",
        [STAMP_NO_MAC] =
                "has a stamp that is not signed: has the milter the same stamp.key_file? `bindpost reload`",
        [STAMP_BAD_MAC] = "has a stamp that was signed with a key that is not in stamp.key_file, or changed "
                          "since: both "
                          "need the same keys; `bindpost reload`",
        [STAMP_EXPIRED] = "has a stamp older than stamp.lifetime: was it in the MTA's queue for so long? Is "
                          "the clock right?",
        [STAMP_FUTURE] =
                "has a stamp that is more than a day ahead: compare this machine's clock with the milter's",
        [STAMP_UNKNOWN_BINDING] =
                "has a stamp that names a binding or group there is not: is the milter's policy another "
                "one? `bindpost reload`",
};

void stamp_alarm(struct stamp_alarm *a, enum stamp_reason reason, uint64_t id, uint64_t now_us)
{
	if (now_us < a->next_us[reason]) {
		a->unsaid[reason]++;
		return;
	}
	if (a->unsaid[reason])
		log_warning("message %016" PRIx64 " %s (and %" PRIu64 " more since this was last said)", id,
		        words[reason], a->unsaid[reason]);
	else
		log_warning("message %016" PRIx64 " %s", id, words[reason]);
	a->unsaid[reason] = 0;
	a->next_us[reason] = now_us + STAMP_ALARM_EVERY_S * SECOND_US;
}
