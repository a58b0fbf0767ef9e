/* engine.c - what a capture needs, prepared once; one capture at a time. */
#include <linux/futex.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include "deadlines.h"
#include "forked.h"
#include "gencore.h"
#include "place.h"
#include "signal_safe.h"

#define STACK_SIZE (64 * 1024)
#define FIRST_CAPACITY 256u
#define BUSY_WAIT_NS NANOSECONDS
#define STALL_NS (60 * NANOSECONDS) /* STALL_SECONDS in machine/patience.py */

enum hold {
    NOT_HELD,
    HELD,
    HOLD_ENDS
};

static struct {
    int prepared;
    int64_t ident_offset;
    int32_t hold;                   /* enum hold: whether the process waits for its collector */
    struct gencore_trace traces[2]; /* the one that is published, and the one that will be */
    const struct gencore_trace *trace;
    void (*probe)(int);
    uint32_t owner;       /* thread that captures; futex; 0: nobody */
    void *floating_point; /* of the calling thread */
    uint64_t floating_point_size;
    struct gencore_threads threads;
    struct gencore_capture capture;
} engine;

static void *
map_memory(size_t size)
{
    long address = raw6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);

    return address < 0 && address > -4096 ? NULL : (void *)address;
}

int
gencore_prepare(uint32_t page_size, int64_t ident_offset)
{
    if (engine.prepared) {
        return 0;
    }
    for (int i = 0; i < GENCORE_STACKS; i++) {
        char *stack = map_memory(STACK_SIZE + page_size);

        if (!stack || raw3(SYS_mprotect, stack, page_size, PROT_NONE) < 0) {
            return -ENOMEM; /* the lowest page stays a guard */
        }
        engine.capture.stack_tops[i] = stack + page_size + STACK_SIZE;
    }
    engine.floating_point_size = gencore_floating_point_size();
    engine.floating_point = map_memory(engine.floating_point_size);
    engine.threads.capacity = FIRST_CAPACITY;
    engine.threads.slots = map_memory(FIRST_CAPACITY * sizeof(struct gencore_thread));
    if (!engine.floating_point || !engine.threads.slots) {
        return -ENOMEM;
    }
    engine.capture.threads = &engine.threads;
    engine.capture.page_size = page_size;
    engine.ident_offset = ident_offset;
    engine.prepared = 1;
    return 0;
}

/* Take the engine, waiting for another thread's capture; -EBUSY if that takes longer than a second.
 */
static int
take_engine(uint32_t tid)
{
    int64_t deadline = safe_now(CLOCK_MONOTONIC) + BUSY_WAIT_NS;
    struct timespec pause = {0, 50 * 1000 * 1000};

    for (;;) {
        uint32_t owner = 0;

        if (__atomic_compare_exchange_n(&engine.owner, &owner, tid, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            return 0;
        }
        /* A fork in the middle of another thread's capture leaves its child an owner that is not
         * there. */
        if (raw3(SYS_tgkill, raw0(SYS_getpid), owner, 0) == -ESRCH
            && __atomic_compare_exchange_n(&engine.owner, &owner, tid, 0, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE)) {
            return 0;
        }
        if (owner == tid || safe_now(CLOCK_MONOTONIC) > deadline) {
            return -EBUSY;
        }
        (void)raw4(SYS_futex, &engine.owner, FUTEX_WAIT_PRIVATE, owner, &pause);
    }
}

static void
give_engine_back(void)
{
    __atomic_store_n(&engine.owner, 0, __ATOMIC_RELEASE);
    (void)raw3(SYS_futex, &engine.owner, FUTEX_WAKE_PRIVATE, 1);
}

/* An empty table for `count` threads and as many again. The old one stays while a late thread is
 * inside. */
static int
empty_table(struct gencore_threads *threads, uint32_t count)
{
    uint32_t capacity = threads->capacity;
    uint32_t inside = __atomic_load_n(&threads->inside, __ATOMIC_ACQUIRE);

    while (capacity < 4 * count) {
        capacity *= 2;
    }
    if (capacity != threads->capacity || inside) {
        struct gencore_thread *slots = map_memory(capacity * sizeof(*slots));

        if (!slots) {
            return -ENOMEM;
        }
        if (!inside) {
            (void)raw2(SYS_munmap, threads->slots, threads->capacity * sizeof(*slots));
        }
        threads->slots = slots;
        threads->capacity = capacity;
    }
    else {
        for (uint32_t i = 0; i < capacity; i++) {
            threads->slots[i] = (struct gencore_thread){0};
        }
    }
    threads->used = 0;
    threads->asked = 0;
    threads->signal = 0;
    __atomic_store_n(&threads->stopped, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&threads->epoch, threads->epoch + 1, __ATOMIC_RELEASE);
    return 0;
}

static int
launch_with_table(struct gencore_capture *capture, uint32_t count)
{
    struct gencore_threads *threads = capture->threads;
    struct gencore_action previous;
    int error = empty_table(threads, count);

    if (error < 0) {
        capture->result.stage = GENCORE_STAGE_TABLE;
        capture->result.error = -error;
        return error;
    }
    if (capture->request->stop_threads) {
        /* Without a free signal the others are not reached. */
        (void)gencore_arm(threads, &previous);
    }
    error = gencore_launch(capture);
    gencore_disarm(threads, &previous);
    return error;
}

static void
describe_caller(struct gencore_capture *capture)
{
    struct gencore_record *record = &capture->record;
    const struct gencore_trace trace = gencore_find_trace();
    struct gencore_place place = gencore_find_place();

    *record = (struct gencore_record){
        .magic = {'G', 'E', 'N', 'C', 'O', 'R', 'E', '1'},
        .record_size = sizeof(*record),
        .thread_size = sizeof(struct gencore_thread),
        .registers = GENCORE_REGISTERS,
        .pid = capture->pid,
        .tid = capture->tid,
        .text_size = capture->request->text_size + safe_length(capture->request->test)
                     + safe_length(capture->text_end),
        .core_filter = capture->request->core_filter,
        .started_ns = safe_now(CLOCK_REALTIME),
        .trace_function = (uint64_t)(uintptr_t)trace.function,
        .all_threads_signal = trace.all_threads_signal,
        .own_thread_signal = trace.own_thread_signal,
        .probe_function = (uint64_t)(uintptr_t)gencore_probe(),
        .forked_signal = gencore_forked_signal(),
        .ident_offset = engine.ident_offset,
        .phase = place.phase,
        .attempt = place.attempt,
        .cpu_ns = capture->request->usage.cpu_ns,
        .wall_ns = capture->request->usage.wall_ns,
        .place_ns = place.since_ns,
        .place_tid = place.tid,
        .has_stderr = capture->request->hand_on_stderr && capture->plan->stderr_fd >= 0,
    };
    for (unsigned int i = 0; capture->request->info && i < sizeof(record->info); i++) {
        record->info[i] = ((const uint8_t *)capture->request->info)[i];
    }
    capture->calling.tid = capture->tid;
    capture->calling.state = GENCORE_THREAD_CALLING;
    (void)raw2(SYS_prctl, PR_GET_NAME, capture->calling.name);
}

/* Whether a process has ended, seen without a descriptor: one that has lost its program has. */
static int
has_ended(int32_t pid)
{
    char path[32], program[8];
    struct safe_text text = safe_text_in(path, sizeof(path));
    long count;

    safe_put(&text, "/proc/");
    safe_put_number(&text, (uint64_t)pid, 1);
    safe_put(&text, "/exe");
    count = raw4(SYS_readlinkat, AT_FDCWD, path, program, sizeof(program));
    return count == -ENOENT || count == -ESRCH;
}

/*
 * Wait until a process has ended, at most that long; also where no descriptor is left for the wait.
 * End it if it stands still, stopped or with a disk that hangs: it has our standard error, for
 * whose end others wait.
 */
static void
await_end(int32_t pid, int64_t nanoseconds)
{
    int processor_clock = (int)(~(uint32_t)pid << 3 | 2); /* clock_getcpuclockid(3) */
    int64_t looked_at = safe_now(CLOCK_MONOTONIC), deadline = looked_at + nanoseconds;
    int64_t used = -1, stood = 0;
    struct pollfd ended = {.fd = (int)raw2(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int64_t tick = ended.fd >= 0 ? NANOSECONDS : NANOSECONDS / 20;

    while (looked_at < deadline && stood < STALL_NS && (ended.fd >= 0 || !has_ended(pid))
           && __atomic_load_n(&engine.hold, __ATOMIC_SEQ_CST) == HELD) {
        struct timespec timeout = {tick / NANOSECONDS, tick % NANOSECONDS};
        int64_t now, used_now;

        if (raw5(SYS_ppoll, &ended, ended.fd >= 0, &timeout, NULL, 0) > 0) {
            break;
        }
        now = safe_now(CLOCK_MONOTONIC);
        used_now = safe_now(processor_clock);
        /* A tick, however long it was: we may have been stopped, too. */
        stood = used_now != used ? 0 : stood + (now - looked_at < tick ? now - looked_at : tick);
        used = used_now;
        looked_at = now;
    }
    if (stood >= STALL_NS && ended.fd >= 0) {
        (void)raw4(SYS_pidfd_send_signal, ended.fd, SIGKILL, NULL, 0);
    }
    else if (stood >= STALL_NS && !has_ended(pid)) {
        (void)raw2(SYS_kill, pid, SIGKILL);
    }
    if (ended.fd >= 0) {
        (void)raw1(SYS_close, ended.fd);
    }
}

int
gencore_capture(const struct gencore_plan *plan, const struct gencore_request *request,
                struct gencore_result *result)
{
    struct gencore_capture *capture = &engine.capture;
    gencore_sigset all = ~request->open_signals, before, held;
    uint32_t tid = (uint32_t)raw0(SYS_gettid);
    long count;
    int error;

    *result = (struct gencore_result){0};
    if (!engine.prepared || take_engine(tid) < 0) {
        result->stage = GENCORE_STAGE_BUSY;
        result->error = EBUSY;
        return -EBUSY;
    }
    /* To block, not to set: what the caller blocks stays blocked. */
    (void)raw4(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(gencore_sigset));

    capture->plan = plan;
    capture->request = request;
    capture->result = (struct gencore_result){0};
    capture->calling = (struct gencore_thread){0};
    capture->pid = (int32_t)raw0(SYS_getpid);
    capture->tid = (int32_t)tid;
    capture->result.pid = capture->pid;
    gencore_name_claim(capture);
    describe_caller(capture);
    capture->calling.sigmask = before;
    if (request->context) {
        gencore_registers_from_context(&capture->calling, request->context);
    }
    else {
        gencore_save_floating_point(&capture->calling, engine.floating_point,
                                    engine.floating_point_size);
        gencore_save_registers(capture->calling.regs);
    }

    count = gencore_count_threads();
    do {
        error = launch_with_table(capture, count > 0 ? (uint32_t)count : 1);
        count = 2 * (count > 0 ? count : 1);
    } while (capture->result.stage == GENCORE_STAGE_TABLE && capture->result.error == ENOSPC);

    *result = capture->result;
    if (error == 0 && request->hold_ns > 0) {
        __atomic_store_n(&engine.hold, HELD, __ATOMIC_SEQ_CST);
        /* Whoever waits that long must be able to end the process: not what only a handler blocks.
         */
        held = before & ~(GENCORE_CANCELS & ~capture->calling.sigmask);
        (void)raw4(SYS_rt_sigprocmask, SIG_SETMASK, &held, NULL, sizeof(gencore_sigset));
        await_end(result->collector_pid, request->hold_ns);
        (void)raw4(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(gencore_sigset));
        __atomic_store_n(&engine.hold, NOT_HELD, __ATOMIC_SEQ_CST);
    }
    gencore_release(&engine.threads); /* also if the helper that stopped them was killed */
    /* First given back: a handler that has been waiting for the mask may capture, too. */
    give_engine_back();
    (void)raw4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(gencore_sigset));
    return error;
}

int
gencore_is_held(void)
{
    return __atomic_load_n(&engine.hold, __ATOMIC_SEQ_CST) != NOT_HELD;
}

void
gencore_end_hold(void)
{
    int32_t held = HELD;

    (void)__atomic_compare_exchange_n(&engine.hold, &held, HOLD_ENDS, 0, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST);
}

void
gencore_set_trace(const struct gencore_trace *trace)
{
    struct gencore_trace *unused = &engine.traces[engine.trace == &engine.traces[0]];

    *unused = *trace;
    __atomic_store_n(&engine.trace, unused, __ATOMIC_RELEASE);
}

struct gencore_trace
gencore_find_trace(void)
{
    const struct gencore_trace *trace = __atomic_load_n(&engine.trace, __ATOMIC_ACQUIRE);

    return trace ? *trace : (struct gencore_trace){0};
}

void
gencore_set_probe(void (*function)(int))
{
    __atomic_store_n(&engine.probe, function, __ATOMIC_RELEASE);
}

void (*gencore_probe(void))(int)
{
    return __atomic_load_n(&engine.probe, __ATOMIC_ACQUIRE);
}

uint64_t
gencore_captured_stack(void)
{
    return gencore_stack_pointer(&engine.capture.calling);
}

void
gencore_set_captured(const struct gencore_thread *thread)
{
    engine.capture.calling = *thread;
}

void
gencore_capture_in_handler(const struct gencore_standby *standby, gencore_sigset open_signals,
                           struct gencore_usage usage, siginfo_t *info, void *context,
                           struct gencore_result *result)
{
    struct gencore_request request = standby->request;

    if (request.hold_ns > 0) {
        gencore_close_list();
    }
    request.test = gencore_find_place().test;
    request.open_signals = open_signals;
    request.usage = usage;
    request.info = info;
    request.context = context;
    if (gencore_capture(standby->plan, &request, result) < 0 && request.hand_on_stderr
        && !request.is_only_told) {
        gencore_complain(standby->plan, result);
    }
}
