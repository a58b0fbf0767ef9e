/* cancels.h - signals with which a run is cancelled: SIGTERM, SIGHUP and SIGINT. */
#ifndef GENCORE_CANCELS_H
#define GENCORE_CANCELS_H

#include "gencore.h"

/*
 * If there are standbys put our handlers before the default action of SIGTERM and SIGHUP; whatever
 * else is there stays the first. `with_interrupt`: before the current handler of SIGINT, too, which
 * ours calls; only Python knows whether that is its usual one. Whether SIGINT has a handler that is
 * not ours.
 */
int gencore_watch_cancels(int with_interrupt);

/* Take our handlers out where they are still the first. */
void gencore_unwatch_cancels(void);

/*
 * By the thread of the tests. What is captured with: `end` before the process dies of SIGTERM or
 * SIGHUP, for the request's hold_ns at most; `interrupt` before the handler of SIGINT is called,
 * and for a controller. NULL: nothing is. 1 if a handler may go on reading the ones before, which
 * must then never be freed.
 */
int gencore_set_cancel_standbys(const struct gencore_standby *end,
                                const struct gencore_standby *interrupt);

/* Capture as at SIGINT, for a handler of Python that has been called; who sent it is not known. */
void gencore_capture_interrupt(void);

/*
 * In a worker: capture when its controller passes a cancel on, with real-time signal `number`. 0,
 * or -EBUSY if somebody else has a handler for it.
 */
int gencore_accept_cancels(int number);

/*
 * In a controller: the processes that a cancel is passed on to, by descriptors of pidfd_open(2)
 * that stay the caller's. All must have accepted: a process without a handler would be killed.
 */
void gencore_set_cancel_workers(int number, const int *descriptors, unsigned int count);

#endif
