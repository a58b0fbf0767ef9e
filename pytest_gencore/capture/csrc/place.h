/* place.h - where in its run the process is, for captures whose text was made before. */
#ifndef GENCORE_PLACE_H
#define GENCORE_PLACE_H

#include "gencore.h"

struct gencore_place {
    const char *test; /* JSON of its name, "null" between tests */
    uint32_t phase;   /* enum gencore_phase */
    int32_t attempt;
    int32_t tid;      /* the thread of the tests, 0: not known */
    int64_t since_ns; /* how long it has been there */
    struct gencore_usage
        usage; /* since then, or up to 50 ms before; cpu_ns is -1 for another thread */
};

/*
 * Where in its test the process is. One atomic store: a handler sees phase and attempt as they were
 * before, or as they are.
 */
void gencore_set_test_phase(enum gencore_phase phase, int32_t attempt);

/*
 * Which test runs, for captures by a handler: as in a request; and no phase of it has begun. What
 * is given stays the caller's. `now`: CLOCK_MONOTONIC, which the caller gets without a system call.
 * Returns whether a handler may still be reading the one before.
 */
int gencore_set_test(const char *test, int64_t now);

/*
 * Write the name of each test that begins into a file as protocol.h says, which has its full size;
 * -1: into none. The descriptor stays the caller's.
 *
 * The file is mapped: a system call that writes took longer than everything else that is done for a
 * test. Where it cannot be mapped it is written to, if the descriptor is still its own: a test may
 * have closed it.
 */
void gencore_list_tests(int fd);

/*
 * Leave that file and close its descriptor: the process is about to end. Where a file that is open
 * stays under another name when it is removed, as with FUSE, its folder could not be.
 */
void gencore_close_list(void);

/*
 * Whether a bus error at this address was ours: the file could not be written, as on a disk that
 * has failed. Then there is memory in its place. Signal safe.
 */
int gencore_is_list(const void *address);

/* As gencore_set_test() of a test whose setup begins, its first; `wall`: CLOCK_REALTIME. */
int gencore_begin_test(const char *test, int64_t now, int64_t wall);

/* Say that the calling thread runs the tests. */
void gencore_set_test_thread(void);

/* As it is now. Signal safe. */
struct gencore_place gencore_find_place(void);

#endif
