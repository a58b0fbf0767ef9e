/* deadlines.h - timers whose handler captures. */
#ifndef GENCORE_DEADLINES_H
#define GENCORE_DEADLINES_H

#include "gencore.h"

enum gencore_fired {
    GENCORE_NOT_FIRED = 0,
    GENCORE_FIRED,             /* the result tells what came of it */
    GENCORE_FIRED_IN_DEBUGGER, /* a tracer is attached: no capture */
};

/*
 * Capture the calling thread's process in `nanoseconds` from now, in a handler on that thread.
 * `exits`: end the process afterwards, with status 1. 0 or -errno.
 */
int gencore_set_deadline(unsigned int which, int64_t nanoseconds,
                         const struct gencore_standby *standby, int exits);

/*
 * The run goes on: the deadline of the session is that far away again. Signal safe, from any
 * thread; costs nothing without that deadline. Whether it has passed, and must be set again.
 */
int gencore_note_progress(void);

/* By the thread that set it: the handler does not run afterwards. What it did: enum gencore_fired.
 */
int gencore_cancel_deadline(unsigned int which, struct gencore_result *result);

/* Let no deadline pass any more, from whatever thread: the process is about to end. Signal safe. */
void gencore_stop_deadlines(void);

/* Cancel all, and give their signals back. */
void gencore_release_deadlines(void);

/* What the handler did so far. */
int gencore_deadline_fired(unsigned int which, struct gencore_result *result);

#endif
