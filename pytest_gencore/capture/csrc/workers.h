/* workers.h - of a controller of pytest-xdist: what it has heard of each worker. */
#ifndef GENCORE_WORKERS_H
#define GENCORE_WORKERS_H

#include "gencore.h"

/*
 * Keep account of a worker, from its start on. `pid`: 0 for one on another machine; `descriptor`:
 * of pidfd_open(2), stays the caller's, -1 for none. Its place among them, or -ENOSPC.
 */
int gencore_add_worker(const char *name, int32_t pid, int descriptor);

/* It has said something. What is no place is passed over, here and below. */
void gencore_hear_worker(unsigned int worker);

/*
 * It has said that it runs this test, or none (NULL). Returns the one before, which the caller may
 * free then: a snapshot finds one or the other.
 */
const struct gencore_worker_test *gencore_set_worker_test(unsigned int worker,
                                                          const struct gencore_worker_test *test);

/* It has said its last, and should end. */
void gencore_dismiss_worker(unsigned int worker);

/* Its process has ended, or is not looked after any more. */
void gencore_remove_worker(unsigned int worker);

/* Where they are in memory, and how many. */
void gencore_find_workers(uint64_t *address, uint64_t *count);

/*
 * The controller is about to end, without a word to them: leave a process behind that kills those
 * that do not end by themselves. Says so on `stderr_fd`, -1: nowhere. Signal safe.
 */
void gencore_end_workers(int stderr_fd);

#endif
