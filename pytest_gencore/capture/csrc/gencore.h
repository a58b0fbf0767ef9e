/*
 * gencore.h - the engine's parts and their contracts; protocol.h has what leaves the process.
 *
 *   module.c     Python glue: plans, captures, the test's phase
 *   triggers.c   Python glue: crash handlers and deadlines; cancel_triggers.c: cancels
 *   probe.c, probe_heap.c, peek.c, free_threads.c   Python glue: Python in a copy of the snapshot
 *   engine.c     prepared once; one capture at a time
 *   place.c      where in its run the process is, for handlers; place.h
 *   launcher.c   two short-lived helpers that share our memory: files, snapshot, collector
 *   runfiles.c   everything that makes or removes a file; runfiles.h
 *   descriptors.c, children.c, items.c   what the captured process has open, and its children
 *   signals.c    real-time signals that nobody uses
 *   threads.c    stop the other threads, save their registers, let them go on
 *   snapshot.c   life of the snapshot: serve memory, then crash or exit
 *   complaints.c what a handler says that could not capture
 *   crashes.c    handlers of fatal signals: capture, then hand on to whoever was there before
 *   deadlines.c  timers whose handler captures, also while native code holds the GIL; deadlines.h
 *   cancels.c    handlers of the signals with which a run is cancelled; cancels.h
 *   forked.c     children tell where they stand, and capture themselves; forked.h
 *   journal.c    notes that the snapshot carries to the collector
 *   memory.c     what compilers call for assignments and loops
 *   arch_*.c     registers and process creation of one architecture
 *
 * Everything but the Python glue and the preparing half of engine.c is signal safe: raw system
 * calls only, no malloc, no stdio, no locks, no libc. `tests/native/test_signal_safe.py` checks the
 * object files for it.
 *
 * Results are 0 or positive, or -errno.
 */
#ifndef GENCORE_H
#define GENCORE_H

#include <signal.h>
#include <stdint.h>

#include "protocol.h"

#define GENCORE_SIGNAL_COUNT 64 /* of the kernel, on every architecture that we know */

/* The kernel's signal set: one bit a signal; the libc type is larger than the kernel takes. */
typedef uint64_t gencore_sigset;

/* The threads of one capture: an open-addressing hash table by thread id, never full. */
struct gencore_threads {
    struct gencore_thread *slots;
    uint32_t capacity; /* a power of two */
    uint32_t used;     /* slots not FREE */
    uint32_t stopped;  /* futex: counts answers */
    uint32_t released; /* futex: epoch up to which threads may go on */
    uint32_t epoch;    /* of the capture under way */
    uint32_t inside;   /* threads inside the handler */
    uint32_t asked;    /* threads signalled in the capture under way */
    int signal;        /* the signal in use, 0 if none is free */
};

/* What is done about a signal, as rt_sigaction(2) takes it. */
struct gencore_action {
    void *handler;
    unsigned long flags;
    void (*restorer)(void);
    gencore_sigset mask;
};

#define GENCORE_SIGNAL(number) (1ULL << ((number) - 1)) /* in a gencore_sigset */

/* Signals with which a run is cancelled: they may end a hold. */
#define GENCORE_CANCELS (GENCORE_SIGNAL(SIGTERM) | GENCORE_SIGNAL(SIGHUP) | GENCORE_SIGNAL(SIGINT))

/* What a thread has used since a deadline was set for it, in nanoseconds. */
struct gencore_usage {
    int64_t cpu_ns;
    int64_t wall_ns; /* 0: not known */
};

/* Fixed text that the collector is started with, prepared while the process is sane. */
struct gencore_plan {
    char *const *argv;
    char *const *envp;
    const char *directory; /* absolute path of the artifact directory */
    const char *run_name;  /* name of the run's hidden folder in it */
    char *const *messages; /* by enum gencore_stage, for handlers that can ask nobody */
    int32_t stderr_fd;     /* the standard error of before any output was captured, or -1 */
    int32_t max_captures;  /* of the run, by all its processes; negative: any number */
};

struct gencore_request {
    const char *text; /* JSON for the collector, up to the test's name */
    uint64_t text_size;
    const char *test; /* JSON of that name, "null" between tests; NULL: the text is whole */
    uint64_t core_filter;
    int stop_threads;   /* 0: only the calling thread's registers */
    int64_t hold_ns;    /* stand still until the collector has ended, at most that long */
    int hand_on_stderr; /* the collector gets plan->stderr_fd */
    int is_only_told;   /* no archive comes of it: it is none of the run's captures */
    const char *claim;  /* only one capture of the test with the same claim is made; NULL: any */
    gencore_sigset open_signals; /* may come meanwhile; their handlers must return */
    struct gencore_usage usage;  /* of the calling thread */
    const siginfo_t *info;       /* the signal behind it, or NULL */
    void *context; /* of that signal's handler, for the registers of the calling thread, or NULL */
};

/* What a capture answers to its caller. */
struct gencore_result {
    int32_t stage; /* enum gencore_stage: where it failed */
    int32_t error; /* errno of that failure */
    int32_t collector_pid;
    int32_t snapshot_pid;
    int32_t pid;
    char name[GENCORE_NAME_SIZE];
};

/* Stacks of the middle helper, of the collector before its exec, and of the snapshot. */
enum {
    GENCORE_STACK_MIDDLE,
    GENCORE_STACK_COLLECTOR,
    GENCORE_STACK_SNAPSHOT,
    GENCORE_STACKS
};

/* One capture under way, seen by the launcher; lives in the engine, not on a stack. */
struct gencore_capture {
    const struct gencore_plan *plan;
    const struct gencore_request *request;
    struct gencore_threads *threads;
    struct gencore_thread calling;
    struct gencore_record record;
    struct gencore_result result;
    uint8_t stdout_end[GENCORE_OUTPUT_SIZE]; /* of what was written to it */
    uint8_t stderr_end[GENCORE_OUTPUT_SIZE];
    void *stack_tops[GENCORE_STACKS];
    char claim[64];     /* name of the file that only one capture can make; empty: none */
    char text_end[128]; /* of the text, behind the test's name */
    uint32_t page_size;
    uint32_t sequence;    /* SEQ of the last archive name of this process */
    uint32_t middle_done; /* futex: the middle helper is about to end */
    int32_t pid;
    int32_t tid;
};

/* ---- engine.c --------------------------------------------------------------------- */

/*
 * Allocate stacks and the thread table, once a process. `ident_offset`: pthread_self(3) minus the
 * thread pointer, which is the same for every thread. 0 or -errno.
 */
int gencore_prepare(uint32_t page_size, int64_t ident_offset);

/*
 * Take one snapshot of this process and start its collector. Signal safe; needs no GIL, takes one
 * if held. Blocks the calling thread for one fork plus the start of the collector, and as long as
 * the request holds the process. Result in *result. Whatever comes of it, the threads that it
 * stopped run again afterwards, and nobody else can let them go. Two threads at once: one after the
 * other; more than a second of waiting, or a call from a signal handler that interrupted a capture
 * on the same thread: -EBUSY.
 */
int gencore_capture(const struct gencore_plan *plan, const struct gencore_request *request,
                    struct gencore_result *result);

/* Whether the process has been captured and is held for its collector. Signal safe. */
int gencore_is_held(void);

/* Let a process that is held for its collector go on. Signal safe. */
void gencore_end_hold(void);

/* A function that writes Python stacks to standard error when called with a signal; see
 * faulthandler. */
struct gencore_trace {
    void (*function)(int);
    int32_t all_threads_signal;
    int32_t own_thread_signal; /* 0: it cannot write that of the calling thread alone */
};

/* Copies it. A handler sees the one before or this one, whole. By one thread at a time. */
void gencore_set_trace(const struct gencore_trace *trace);

/* As it is now; all zero if there is none. */
struct gencore_trace gencore_find_trace(void);

/* A function for GENCORE_COMMAND_PROBE, which later captures hand over; NULL: none. */
void gencore_set_probe(void (*function)(int));
void (*gencore_probe(void))(int);

/* The stack pointer of the thread that captures; for its copies. */
uint64_t gencore_captured_stack(void);

/* Say which thread that is, in a copy that no capture has made. */
void gencore_set_captured(const struct gencore_thread *thread);

/*
 * What a handler captures with, whichever test runs: made before, and not changed as long as a
 * handler can see it. The request's hold_ns is how long a dying process waits for its collector.
 */
struct gencore_standby {
    const struct gencore_plan *plan;
    struct gencore_request request;
};

/* Capture from a signal handler, and say what went wrong. */
void gencore_capture_in_handler(const struct gencore_standby *standby, gencore_sigset open_signals,
                                struct gencore_usage usage, siginfo_t *info, void *context,
                                struct gencore_result *result);

/* Write on the plan's standard error why there is no archive; nothing if the test has one. */
void gencore_complain(const struct gencore_plan *plan, const struct gencore_result *result);

/* ---- crashes.c -------------------------------------------------------------------- */

/*
 * Put our handler before the current ones of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, with an
 * alternate stack for the calling thread. Called again it goes only in front of handlers it has met
 * the first time (faulthandler's) and of the default action, so that a handler that a test installs
 * stays the first. Number of signals we are in front of, or -errno.
 */
int gencore_watch_crashes(void);
void gencore_rewatch_crashes(void); /* the same, if one is displaced of those it looks at */

/* Take our handler out where it is still the first. */
void gencore_unwatch_crashes(void);

/* Let the next gencore_watch_crashes be the first one again: another session begins. */
void gencore_forget_handlers(void);

/* Whether a fatal signal has come to this process: it is about to end, whatever it does meanwhile.
 */
int gencore_is_crashing(void);

/* The thread that captures a crash of this process; 0: none has come, -1: it has been captured. */
int32_t gencore_crashing_thread(void);

/*
 * Put a handler under faulthandler's, or take it out: save the actions, disable faulthandler,
 * install or remove, enable it again, restore what was in front of it. Not while our own handlers
 * are in.
 */
void gencore_save_actions(void);
void gencore_install_under_faulthandler(void);
void gencore_remove_under_faulthandler(void);
void gencore_restore_actions(void);

/*
 * What the next crash is captured with; NULL: it is not. 1 if a handler may go on reading the one
 * before, which must then never be freed; else 0.
 */
int gencore_set_crash_standby(const struct gencore_standby *standby);

/*
 * What a crash of a child is captured with that is forked from now on; NULL: it is not. It must
 * never be freed: children see it as long as they live.
 */
void gencore_set_child_standby(const struct gencore_standby *standby);

/* ---- journal.c -------------------------------------------------------------------- */

/* Add to the notes that every later snapshot carries to its collector. Not signal safe. 0 or
 * -errno. */
int gencore_note(const void *data, uint64_t size);

/*
 * Where they are now. Whole whenever it is asked, also in the middle of gencore_note(); valid as
 * long as the thread that adds notes stands still.
 */
void gencore_find_journal(uint64_t *address, uint64_t *size);

/* ---- claims.c --------------------------------------------------------------------- */

/* Fill in the capture's claim and text_end. */
void gencore_name_claim(struct gencore_capture *capture);

/* ---- launcher.c ------------------------------------------------------------------- */

/*
 * Run the two helpers; returns when the collector's program has started or the capture has failed.
 * All signals must be blocked but the open ones. Fills capture->result.
 */
int gencore_launch(struct gencore_capture *capture);

/* ---- descriptors.c ---------------------------------------------------------------- */

/*
 * Write what the captured process's children and descriptors are at this moment into the hand-over,
 * behind the place of the record, whose fields for them are set. Runs in the collector-to-be while
 * it has a copy of the descriptors, none of which it reads from or changes; a full table costs the
 * copies of the three lowest. `left_out`: a descriptor of our own, or -1. The hand-over or -errno.
 */
long gencore_describe_process(struct gencore_capture *capture, int left_out);

/* ---- signals.c -------------------------------------------------------------------- */

/* Handle a real-time signal that has the default action, *previous from now; -EAGAIN: none is left.
 */
int gencore_take_signal(const struct gencore_action *action, struct gencore_action *previous);

/* Whether a signal (0: none) still has this handler. */
int gencore_has_signal(int signal, const void *handler);

/* Put the default action back, unless somebody else has put a handler there. */
void gencore_give_signal_back(int signal, const void *handler);

/* ---- threads.c -------------------------------------------------------------------- */

/* Choose a free real-time signal and install the handler; *previous is for gencore_disarm. 0 or
 * -EAGAIN. */
int gencore_arm(struct gencore_threads *threads, struct gencore_action *previous);

/* Drop what is still pending, restore the previous action. */
void gencore_disarm(struct gencore_threads *threads, const struct gencore_action *previous);

/*
 * Stop every thread of process `pid` but `tid` and wait for their answers, at most 200 ms, until no
 * new thread appears. Called from a helper that shares the memory. 0, or -ENOSPC if the table is
 * too small.
 */
int gencore_stop(struct gencore_threads *threads, int32_t pid, int32_t tid);

/* Let the stopped threads go on. */
void gencore_release(struct gencore_threads *threads);

/* Number of entries of /proc/self/task, or -errno. */
long gencore_count_threads(void);

/* ---- snapshot.c ------------------------------------------------------------------- */

/* What the snapshot needs; made before the clone. */
struct gencore_snapshot {
    int command_fd;
    int reply_fd;
    int work_fd; /* its working directory, where a relative core_pattern puts the core */
    uint64_t core_filter;
    uint32_t page_size;
    int is_awaited; /* a dying process waits for it: it keeps its priority */
    /* For the copy that crashes: pages that exist already, so that its memory is that of the
     * snapshot. */
    void *crash_stack_top;
};

/* The snapshot's whole life; takes a struct gencore_snapshot. Ends when the command pipe is closed.
 */
_Noreturn int gencore_snapshot_main(void *snapshot);

/* What a copy of a process calls, to write to its standard error. */
struct gencore_copy_call {
    void (*function)(int);
    int signal; /* its argument */
    int output;
};

/* The copy's whole life; takes a struct gencore_copy_call. It ends with its parent, and dies of no
 * more than two seconds of the processor. */
int gencore_trace_main(void *call);

/* Lower the calling process's priority, so that tests go first. Not before the threads go on again;
 * and not for a process that waits for it. */
void gencore_lower_priority(void);

/* Close every file descriptor from `first` on. */
void gencore_close_from(unsigned int first);

/* ---- arch_*.c --------------------------------------------------------------------- */

/*
 * clone(2) with `flags` running function(argument) on a stack of its own; the child exits with its
 * result. With CLONE_PARENT_SETTID in the flags *tid is the child's id before the child runs.
 */
long gencore_clone(unsigned long flags, void *stack_top, int (*function)(void *), void *argument,
                   int32_t *tid);

/* Save the caller's registers as they are right after this call: a frame that must outlive the
 * snapshot. Registers that a call may change are 0. */
void gencore_save_registers(uint64_t regs[GENCORE_REGISTERS]);

/* Bytes that gencore_save_floating_point needs, found once; calls no libc either. */
uint64_t gencore_floating_point_size(void);

/* Save the floating point and vector state in the layout of a signal frame; `area` is 64-byte
 * aligned. */
void gencore_save_floating_point(struct gencore_thread *thread, void *area, uint64_t size);

/* The calling thread's thread pointer, as it stands in struct gencore_thread. */
uint64_t gencore_thread_pointer(void);

/* Bits of a code address in which the processor keeps a signature, if it signs any; else 0. */
uint64_t gencore_signed_bits(void);

/* Those at the interrupted instruction, from the handler's third argument. */
void gencore_registers_from_context(struct gencore_thread *thread, void *context);

/* Of a thread that was not reached only the instruction and the stack may be known. */
void gencore_registers_from_position(struct gencore_thread *thread, uint64_t pc, uint64_t sp);

/* The stack pointer among the registers of a thread. */
uint64_t gencore_stack_pointer(const struct gencore_thread *thread);

/* Call a function on another stack, from its top downwards; returns to the caller's. */
void gencore_call_on_stack(void *top, void (*function)(void));

/* SA_RESTORER and the function it needs; 0 and NULL where the kernel brings its own. */
extern const unsigned long gencore_restorer_flag;
extern void (*const gencore_restorer)(void);

#endif
