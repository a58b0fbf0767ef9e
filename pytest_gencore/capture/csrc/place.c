/* place.c - where in its run the process is: which test, which phase of it, and since when. */
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "deadlines.h"
#include "gencore.h"
#include "place.h"
#include "signal_safe.h"

static struct {
    const char *test;
    uint64_t phase; /* attempt << 32 | enum gencore_phase: one store */
    int64_t since;  /* CLOCK_MONOTONIC when the test was said */
    int64_t cpu;    /* what the thread of the tests had used of a processor then */
    int32_t tid;    /* that thread */
} place;

static struct {
    int fd;
    dev_t device;
    ino_t inode;
} list = {.fd = -1};

void
gencore_set_test_phase(enum gencore_phase phase, int32_t attempt)
{
    __atomic_store_n(&place.phase, (uint64_t)(uint32_t)attempt << 32 | (uint32_t)phase,
                     __ATOMIC_RELEASE);
    (void)gencore_note_progress();
}

void
gencore_set_test_thread(void)
{
    place.tid = (int32_t)raw0(SYS_gettid);
}

int
gencore_set_test(const char *test, int64_t now)
{
    gencore_set_test_phase(GENCORE_PHASE_NONE, 0);
    __atomic_store_n(&place.test, test, __ATOMIC_SEQ_CST);
    place.since = now;
    place.cpu = safe_now(CLOCK_THREAD_CPUTIME_ID);
    return gencore_is_crashing();
}

void
gencore_list_tests(int fd)
{
    struct stat status = {0};

    list.fd = fd >= 0 && raw2(SYS_fstat, fd, &status) == 0 ? fd : -1;
    list.device = status.st_dev;
    list.inode = status.st_ino;
}

/* Whether the descriptor is still that of the list. */
static int
has_list(void)
{
    struct stat status;

    return list.fd >= 0 && raw2(SYS_fstat, list.fd, &status) == 0 && status.st_ino == list.inode
           && status.st_dev == list.device;
}

int
gencore_begin_test(const char *test, int64_t now)
{
    struct iovec line[] = {{(void *)test, safe_length(test)}, {(void *)"\n", 1}};

    if (has_list()) {
        (void)raw3(SYS_writev, list.fd, line, 2);
    }
    return gencore_set_test(test, now);
}

void
gencore_close_list(void)
{
    if (has_list()) {
        (void)raw1(SYS_close, list.fd);
    }
    list.fd = -1;
}

struct gencore_place
gencore_find_place(void)
{
    uint64_t phase = __atomic_load_n(&place.phase, __ATOMIC_ACQUIRE);
    int is_same_thread = place.tid == (int32_t)raw0(SYS_gettid);

    return (struct gencore_place){
        .test = __atomic_load_n(&place.test, __ATOMIC_SEQ_CST),
        .phase = (uint32_t)phase,
        .attempt = (int32_t)(phase >> 32),
        .tid = place.tid,
        .usage.cpu_ns = is_same_thread ? safe_now(CLOCK_THREAD_CPUTIME_ID) - place.cpu : -1,
        .usage.wall_ns = safe_now(CLOCK_MONOTONIC) - place.since,
    };
}
