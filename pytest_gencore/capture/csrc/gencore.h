/*
 * gencore.h - the engine's parts and their contracts.
 *
 *   module.c     Python glue, the only file that knows Python
 *   engine.c     prepared once; one capture at a time
 *   launcher.c   two short-lived helpers that share our memory: names, files, snapshot, collector
 *   threads.c    stop the other threads, save their registers, let them go on
 *   snapshot.c   life of the snapshot: serve memory, then crash or exit
 *   crashes.c    handlers of fatal signals: capture, then hand on to whoever was there before
 *   deadlines.c  timers whose handler captures, also while native code holds the GIL
 *   journal.c    notes that the snapshot carries to the collector
 *   arch_*.c     registers and process creation of one architecture
 *
 * Everything but module.c and the preparing half of engine.c is the frozen section: raw system calls only,
 * no malloc, no stdio, no locks, no libc. `tests/native/test_frozen.py` checks the object files for it.
 *
 * Results are 0 or positive, or -errno.
 */
#ifndef GENCORE_H
#define GENCORE_H

#include <signal.h>
#include <stdint.h>

#if defined(__x86_64__)
#define GENCORE_REGISTERS 27 /* struct user_regs_struct, sys/user.h */
#define GENCORE_SIGNAL_COUNT 64
#elif defined(__aarch64__)
#define GENCORE_REGISTERS 34 /* struct user_pt_regs, asm/ptrace.h */
#define GENCORE_SIGNAL_COUNT 64
#endif

/* The kernel's signal set: one bit a signal; the libc type is larger than the kernel takes. */
typedef uint64_t gencore_sigset;

/* How far the stop of one thread got. The manifest tells it to the reader of a core. */
enum gencore_thread_state {
    GENCORE_THREAD_FREE = 0,
    GENCORE_THREAD_ASKED = 1,    /* signal sent, no answer yet */
    GENCORE_THREAD_STOPPED = 2,  /* waits in the handler, registers saved */
    GENCORE_THREAD_CALLING = 3,  /* the thread that captures */
    GENCORE_THREAD_MASKED = 4,   /* blocks the signal: not reached */
    GENCORE_THREAD_SILENT = 5,   /* did not answer before the deadline: not reached */
    GENCORE_THREAD_GONE = 6,     /* ended meanwhile */
};

/*
 * One thread of the captured process. Also the record in the hand-over to the collector, which reads it
 * with the same layout (collector/handover.py).
 */
struct gencore_thread {
    int32_t tid;
    uint32_t state;       /* enum gencore_thread_state; set last by the thread itself */
    char name[16];        /* as PR_GET_NAME gives it */
    uint64_t fp_address;  /* in the captured memory: signal-frame floating point area, 0 if none */
    uint64_t fp_size;     /* bytes */
    uint64_t tls;         /* aarch64: tpidr_el0 */
    uint64_t sigmask;     /* blocked signals at the time of the stop, 0 if not known */
    uint64_t regs[GENCORE_REGISTERS]; /* order of NT_PRSTATUS */
};

/* The threads of one capture: an open-addressing hash table by thread id, never full. */
struct gencore_threads {
    struct gencore_thread *slots;
    uint32_t capacity;       /* a power of two */
    uint32_t used;           /* slots not FREE */
    uint32_t stopped;        /* futex: counts answers */
    uint32_t released;       /* futex: epoch up to which threads may go on */
    uint32_t epoch;          /* of the capture under way */
    uint32_t inside;         /* threads inside the handler */
    uint32_t asked;          /* threads signalled in the capture under way */
    int signal;              /* the signal in use, 0 if none is free */
};

/* Who may hold the table's handler: an action as rt_sigaction(2) takes it. */
struct gencore_action {
    void *handler;
    unsigned long flags;
    void (*restorer)(void);
    gencore_sigset mask;
};

/* Fixed text that the collector is started with, prepared while the process is sane. */
struct gencore_plan {
    char *const *argv;
    char *const *envp;
    const char *directory;   /* absolute path of the artifact directory */
    const char *run_name;    /* name of the run's hidden folder in it */
    char *const *messages;   /* by enum gencore_stage, for handlers that can ask nobody */
    int32_t stderr_fd;       /* the standard error of before any output was captured, or -1 */
    int32_t max_captures;    /* of the run, by all its processes; negative: any number */
};

struct gencore_request {
    const char *text;        /* JSON for the collector */
    uint64_t text_size;
    uint64_t core_filter;
    int stop_threads;        /* 0: only the calling thread's registers */
    int64_t hold_ns;         /* keep the process where it is until the collector has ended, at most that long */
    int hand_on_stderr;      /* the collector gets plan->stderr_fd */
    const char *claim;       /* a file in the run's folder that one capture only may make, or NULL */
    const siginfo_t *info;   /* the signal behind it, or NULL */
    void *context;           /* of that signal's handler, for the registers of the calling thread, or NULL */
};

/* Where a capture failed; the index into the messages of engine.py. */
enum gencore_stage {
    GENCORE_STAGE_NONE = 0,
    GENCORE_STAGE_BUSY,
    GENCORE_STAGE_TABLE,
    GENCORE_STAGE_LAUNCH,
    GENCORE_STAGE_DIRECTORY,
    GENCORE_STAGE_RUN_DIRECTORY,
    GENCORE_STAGE_NAME,
    GENCORE_STAGE_FILES,
    GENCORE_STAGE_SNAPSHOT,
    GENCORE_STAGE_HANDOVER,
    GENCORE_STAGE_EXEC,
    GENCORE_STAGE_DIED,
    GENCORE_STAGE_CLAIMED,   /* the test has its capture */
    GENCORE_STAGE_LIMIT,     /* the run has as many as it may have */
    GENCORE_STAGE_FULL,      /* its archives are as large as they may be */
};

#define GENCORE_NAME_SIZE 64 /* "core_YYYYMMDD.HHMMSS.PID.SEQ": at most 37 */

/* First in the hand-over; all numbers little-endian as both sides are the same machine. */
struct gencore_record {
    char magic[8];           /* "GENCORE1" */
    uint32_t record_size;    /* sizeof(struct gencore_record) */
    uint32_t thread_size;    /* sizeof(struct gencore_thread) */
    uint32_t thread_count;   /* thread records that follow, the calling thread first */
    uint32_t registers;      /* GENCORE_REGISTERS */
    int32_t pid;             /* the captured process */
    int32_t tid;             /* the capturing thread */
    int32_t snapshot_pid;
    int32_t stop_signal;     /* 0: threads were not stopped */
    uint64_t text_size;      /* bytes of JSON after the thread records */
    uint64_t core_filter;
    int64_t started_ns;      /* CLOCK_REALTIME when the capture began */
    int64_t stop_ns;         /* until all threads had stopped */
    int64_t snapshot_ns;     /* the clone itself */
    int64_t pause_ns;        /* other threads: first stop signal until release, or until the clone if held */
    int64_t stopped_at_ns;   /* CLOCK_MONOTONIC of the first stop signal */
    int64_t hold_ns;         /* the threads stand until the collector has ended, at most that long; 0: released */
    uint64_t trace_function; /* see GENCORE_COMMAND_TRACE; 0: none */
    uint64_t journal_address;
    uint64_t journal_size;   /* bytes of notes at that address, see gencore_note() */
    int32_t trace_signal;
    uint32_t slot;           /* which of the run's captures it is, 0 if they are not limited */
    int32_t attempt;         /* see gencore_set_moment() */
    int32_t has_stderr;      /* GENCORE_FD_STDERR is open */
    char phase[16];
    uint8_t info[128];       /* siginfo_t, zeros without a signal */
    char name[GENCORE_NAME_SIZE];
};

/* What a capture answers to its caller. */
struct gencore_result {
    int32_t stage;           /* enum gencore_stage: where it failed */
    int32_t error;           /* errno of that failure */
    int32_t collector_pid;
    int32_t snapshot_pid;
    int32_t pid;
    char name[GENCORE_NAME_SIZE];
};

/* Stacks of the middle helper, of the collector before its exec, and of the snapshot. */
enum { GENCORE_STACK_MIDDLE, GENCORE_STACK_COLLECTOR, GENCORE_STACK_SNAPSHOT, GENCORE_STACKS };

/* One capture under way, seen by the launcher; lives in the engine, not on a stack. */
struct gencore_capture {
    const struct gencore_plan *plan;
    const struct gencore_request *request;
    struct gencore_threads *threads;
    struct gencore_thread calling;
    struct gencore_record record;
    struct gencore_result result;
    void *stack_tops[GENCORE_STACKS];
    uint32_t page_size;
    uint32_t sequence;         /* SEQ of the last archive name of this process */
    uint32_t middle_done;      /* futex: the middle helper is about to end */
    int32_t pid;
    int32_t tid;
};

/* File descriptors of the collector when it starts. */
#define GENCORE_FD_HANDOVER 3 /* memfd: record, threads, JSON */
#define GENCORE_FD_ARCHIVE 4  /* NAME.tar.gz.partial, write only */
#define GENCORE_FD_STATE 5    /* NAME.json in the run folder, locked while the collector lives */
#define GENCORE_FD_REQUEST 6  /* write end: commands to the snapshot */
#define GENCORE_FD_REPLY 7    /* read end: the snapshot's answers */
#define GENCORE_FD_STDERR 8   /* the test run's standard error, only if it is to be told at the end */
#define GENCORE_FD_COUNT 9

/* ---- engine.c ------------------------------------------------------------------------------------ */

/* Allocate stacks and the thread table, once a process. Not signal safe. 0 or -errno. */
int gencore_prepare(void);

/*
 * Take one snapshot of this process and start its collector. Signal safe; needs no GIL, takes one if held.
 * Blocks the calling thread for one fork plus the start of the collector, and as long as the request holds
 * the process. Result in *result. Whatever comes of it, the threads that it stopped run again afterwards, and
 * nobody else can let them go.
 * Two threads at once: one after the other; more than a second of waiting, or a call from a signal handler
 * that interrupted a capture on the same thread: -EBUSY.
 */
int gencore_capture(const struct gencore_plan *plan, const struct gencore_request *request,
                    struct gencore_result *result);

/* Phase and attempt of the running test, for captures whose text was made before. */
void gencore_set_moment(const char *phase, int32_t attempt);

/* A function that writes all Python stacks to standard error when called with `signal`; see faulthandler. */
void gencore_set_trace(void (*function)(int), int32_t signal);

/* What a handler captures with: made before, and not changed as long as a handler can see it. */
struct gencore_standby {
    const struct gencore_plan *plan;
    struct gencore_request request; /* hold_ns: how long the dying process waits for its collector */
};

/* Capture from a signal handler, and say what went wrong. */
void gencore_capture_in_handler(const struct gencore_standby *standby, siginfo_t *info, void *context,
                                struct gencore_result *result);

/* ---- crashes.c ----------------------------------------------------------------------------------- */

/*
 * Put our handler before the current ones of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, with an alternate
 * stack for the calling thread. Called again it goes only in front of handlers it has met the first time
 * (faulthandler's) and of the default action, so that a handler that a test installs stays the first.
 * Number of signals we are in front of, or -errno.
 */
int gencore_watch_crashes(void);

/* Take our handler out where it is still the first. */
void gencore_unwatch_crashes(void);

/*
 * Put a handler below faulthandler's, or take it out: keep the actions, disable faulthandler, go below, enable
 * it again, return what was in front of it. Not while our own handlers are in.
 */
void gencore_keep_actions(void);
void gencore_go_below(int into);
void gencore_return_actions(void);

/* What the next crash is captured with; NULL: it is not. Returns what was there, NULL if a handler has it. */
const struct gencore_standby *gencore_set_crash_standby(const struct gencore_standby *standby);

/* ---- deadlines.c --------------------------------------------------------------------------------- */

#define GENCORE_DEADLINES 2
#define GENCORE_DEADLINE_OF_OTHERS 1 /* which: an alarm follows that ends the test; interrupts system calls */

enum gencore_fired {
    GENCORE_NOT_FIRED = 0,
    GENCORE_FIRED,           /* the result tells what came of it */
    GENCORE_FIRED_IN_DEBUGGER, /* a tracer is attached: no capture */
};

/*
 * Capture the calling thread's process in `nanoseconds` from now, in a handler on that thread. `exits`: end
 * the process afterwards, with status 1. 0 or -errno.
 */
int gencore_set_deadline(unsigned int which, int64_t nanoseconds, const struct gencore_standby *standby,
                         int exits);

/* By the thread that set it: the handler does not run afterwards. What it did: enum gencore_fired. */
int gencore_cancel_deadline(unsigned int which, struct gencore_result *result);

/* Cancel all, and give their signals back. */
void gencore_release_deadlines(void);

/* What the handler did so far. */
int gencore_deadline_fired(unsigned int which, struct gencore_result *result);

/* ---- journal.c ----------------------------------------------------------------------------------- */

/* Add to the notes that every later snapshot carries to its collector. Not signal safe. 0 or -errno. */
int gencore_note(const void *data, uint64_t size);

/* Where they are. */
void gencore_find_journal(uint64_t *address, uint64_t *size);

/* ---- launcher.c ---------------------------------------------------------------------------------- */

/*
 * Run the two helpers; returns when the collector's program has started or the capture has failed.
 * All signals must be blocked. Fills capture->result.
 */
int gencore_launch(struct gencore_capture *capture);

/* ---- threads.c ----------------------------------------------------------------------------------- */

/* Choose a free real-time signal and install the handler; *previous is for gencore_disarm. 0 or -EAGAIN. */
int gencore_arm(struct gencore_threads *threads, struct gencore_action *previous);

/* Drop what is still pending, restore the previous action. */
void gencore_disarm(struct gencore_threads *threads, const struct gencore_action *previous);

/*
 * Stop every thread of process `pid` but `tid` and wait for their answers, at most 200 ms, until no new
 * thread appears. Called from a helper that shares the memory. 0, or -ENOSPC if the table is too small.
 */
int gencore_stop(struct gencore_threads *threads, int32_t pid, int32_t tid);

/* Let the stopped threads go on. */
void gencore_release(struct gencore_threads *threads);

/* Number of entries of /proc/self/task, or -errno. */
long gencore_count_threads(void);

/* ---- snapshot.c ---------------------------------------------------------------------------------- */

/* Commands the collector sends, 24 bytes each; one reply each. */
enum gencore_command {
    GENCORE_COMMAND_READ = 1,   /* address, size: the bytes; unreadable pages as zeros */
    GENCORE_COMMAND_MINCORE,    /* address, pages: one byte a page, see mincore(2); 0xff: error */
    GENCORE_COMMAND_UNREADABLE, /* -, -: uint64_t, pages that were sent as zeros so far */
    GENCORE_COMMAND_CRASH,      /* -, -: a copy waits for SIGSEGV; struct gencore_crash in two parts */
    /*
     * function, signal: a copy calls function(signal), which writes to its standard error. Pieces, each
     * after its uint32_t size; a last size 0. A copy, as the function may not survive what it reads.
     */
    GENCORE_COMMAND_TRACE,
};

/* Answer to GENCORE_COMMAND_CRASH: the pid at once, the wait status when it has died. */
struct gencore_crash {
    int32_t pid;    /* or -errno */
    int32_t status;
};

struct gencore_order {
    uint64_t command;
    uint64_t address;
    uint64_t size;
};

/* First bytes on the reply pipe: errno of each step, 0 if it worked. */
struct gencore_hello {
    int32_t pid;
    int32_t filter_error;   /* coredump_filter, refused under gVisor */
    int32_t oom_error;      /* oom_score_adj */
    int32_t limit_error;    /* RLIMIT_CORE */
    int32_t chdir_error;
    uint32_t page_size;
};

/* What the snapshot needs; made before the clone. */
struct gencore_snapshot {
    int request_fd;
    int reply_fd;
    int work_fd;            /* its working directory, where a relative core_pattern puts the core */
    uint64_t core_filter;
    uint32_t page_size;
    /* For the copy that crashes: pages that exist already, so that its memory is that of the snapshot. */
    void *crash_stack_top;
};

/* The snapshot's whole life; takes a struct gencore_snapshot. Ends when the request pipe is closed. */
_Noreturn int gencore_snapshot_main(void *snapshot);

/* Lower the calling process's priority, so that tests go first. Not before the threads go on again. */
void gencore_step_back(void);

/* Close every file descriptor from `first` on. */
void gencore_close_from(unsigned int first);

/* ---- arch_*.c ------------------------------------------------------------------------------------ */

/*
 * clone(2) with `flags` running function(argument) on a stack of its own; the child exits with its result.
 * With CLONE_PARENT_SETTID in the flags *tid is the child's id before the child runs.
 */
long gencore_clone(unsigned long flags, void *stack_top, int (*function)(void *), void *argument,
                   int32_t *tid);

/*
 * Save the caller's registers as they are right after this call: a frame that must outlive the snapshot.
 * Registers that a call may change are 0.
 */
void gencore_save_registers(uint64_t regs[GENCORE_REGISTERS]);

/* Bytes that gencore_save_floating_point needs, found once; calls no libc either. */
uint64_t gencore_floating_point_size(void);

/* Save the floating point and vector state in the layout of a signal frame; `area` is 64-byte aligned. */
void gencore_save_floating_point(struct gencore_thread *thread, void *area, uint64_t size);

/* Registers at the interrupted instruction, from the handler's third argument. */
void gencore_registers_from_context(struct gencore_thread *thread, void *context);

/* Of a thread that was not reached only the instruction and the stack may be known. */
void gencore_registers_from_position(struct gencore_thread *thread, uint64_t pc, uint64_t sp);

/* SA_RESTORER and the function it needs; 0 and NULL where the kernel brings its own. */
extern const unsigned long gencore_restorer_flag;
extern void (*const gencore_restorer)(void);

#endif
