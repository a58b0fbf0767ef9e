/* place.c - where in its run the process is: which test, which phase of it, and since when. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "deadlines.h"
#include "gencore.h"
#include "place.h"
#include "signal_safe.h"

static struct {
    const char *test;
    uint64_t phase; /* attempt << 32 | enum gencore_phase: one store */
    int64_t since;  /* CLOCK_MONOTONIC when the test was said */
    int64_t cpu;    /* what the thread of the tests had used of a processor, not long before */
    int64_t cpu_at; /* when that was */
    int32_t tid;    /* that thread */
} place;

#define CPU_WINDOW_NS (NANOSECONDS / 20) /* to ask takes longer than all else that is said */

#define LIST_SIZE (GENCORE_LIST_HEAD + 2 * GENCORE_LIST_SLOT)

static struct {
    char *area; /* what the file has; NULL: there is no list */
    int is_mapped;
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
    if (now - place.cpu_at > CPU_WINDOW_NS) {
        place.cpu = safe_now(CLOCK_THREAD_CPUTIME_ID);
        place.cpu_at = now;
    }
    return gencore_is_crashing();
}

static char *
map(void *at, int flags, int fd)
{
    long memory = raw6(SYS_mmap, at, LIST_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

    return memory < 0 && memory > -4096 ? NULL : (char *)memory;
}

void
gencore_list_tests(int fd)
{
    struct stat status = {0};

    if (list.area) {
        (void)raw2(SYS_munmap, list.area, LIST_SIZE);
        list.area = NULL;
        list.is_mapped = 0;
    }
    list.fd = fd >= 0 && raw2(SYS_fstat, fd, &status) == 0 ? fd : -1;
    list.device = status.st_dev;
    list.inode = status.st_ino;
    if (list.fd >= 0) {
        list.area = map(NULL, MAP_SHARED, list.fd);
        list.is_mapped = list.area != NULL;
        if (!list.area) {
            list.area = map(NULL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        }
    }
}

/* Another thread may be writing there. */
static void
leave_file(void)
{
    if (list.is_mapped) {
        list.is_mapped = 0;
        (void)map(list.area, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1);
    }
}

int
gencore_is_list(const void *address)
{
    uintptr_t offset = (uintptr_t)address - (uintptr_t)list.area;

    if (!list.is_mapped || offset >= LIST_SIZE) {
        return 0;
    }
    leave_file();
    return 1;
}

/* Whether the descriptor is still that of the list. */
static int
has_list(void)
{
    struct stat status;

    return list.fd >= 0 && raw2(SYS_fstat, list.fd, &status) == 0 && status.st_ino == list.inode
           && status.st_dev == list.device;
}

static void
list_test(const char *test, int64_t wall)
{
    char *which = list.area + GENCORE_LIST_HEAD - 1; /* slot is the newer one */
    unsigned int next = *which == '0';
    unsigned int offset = GENCORE_LIST_HEAD + next * GENCORE_LIST_SLOT;
    struct safe_text text = safe_text_in(list.area + offset, GENCORE_LIST_SLOT - 1);

    safe_put_number(&text, (uint64_t)wall, 1);
    safe_put(&text, " ");
    safe_put(&text, test);
    *text.at++ = '\n';
    __atomic_store_n(which, (char)('0' + next), __ATOMIC_RELEASE);
    if (!list.is_mapped && has_list()) {
        (void)raw4(SYS_pwrite64, list.fd, list.area + offset, text.at - (list.area + offset),
                   offset);
        (void)raw4(SYS_pwrite64, list.fd, which, 1, GENCORE_LIST_HEAD - 1);
    }
}

int
gencore_begin_test(const char *test, int64_t now, int64_t wall)
{
    int is_read;

    if (list.area) {
        list_test(test, wall);
    }
    is_read = gencore_set_test(test, now);
    gencore_set_test_phase(GENCORE_PHASE_SETUP, 1);
    return is_read;
}

void
gencore_close_list(void)
{
    leave_file();
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
    int64_t now = safe_now(CLOCK_MONOTONIC);

    return (struct gencore_place){
        .test = __atomic_load_n(&place.test, __ATOMIC_SEQ_CST),
        .phase = (uint32_t)phase,
        .attempt = (int32_t)(phase >> 32),
        .tid = place.tid,
        .usage.cpu_ns = is_same_thread ? safe_now(CLOCK_THREAD_CPUTIME_ID) - place.cpu : -1,
        .usage.wall_ns = now - place.cpu_at,
        .since_ns = now - place.since,
    };
}
