/*
 * forked.c - children tell where they stand: by fork they have inherited this handler, others that
 * run Python have it from capture/spawned.py.
 *
 * A collector sends the signal to a child of the process that it describes. The handler lets copies
 * of the child write into a FIFO that the collector has made in the run's folder: first the stacks,
 * then, behind a zero, what the probe finds. A copy has one thread, that of the handler, as copies
 * of snapshots have. Then the child captures itself, if the folder says so.
 */
#include <linux/wait.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "forked.h"
#include "gencore.h"
#include "signal_safe.h"

#define STACK_SIZE 16384
#define PATH_SIZE 4096
#define ANSWER_US 700000 /* ANSWER_SECONDS in collector/diagnosis/answers.py, and a little more */

static struct {
    int signal;         /* 0: none is chosen */
    int32_t owner;      /* the process that was armed; its children answer */
    uint32_t answering; /* process that answers; a fork meanwhile leaves that of its parent */
    int output;
    const struct gencore_standby *dump;
    char answers[PATH_SIZE];   /* path of an answer without the number at its end */
    char path[PATH_SIZE + 32]; /* of the answer */
    struct gencore_thread calling;
} forked;

static _Alignas(64) char copy_stack[STACK_SIZE];

/* The copy of the child. It is killed when its time is over or the thread it is a copy of ends. */
static int
copy_main(void *trace)
{
    static const struct itimerval limit = {.it_value = {.tv_usec = ANSWER_US}};
    struct gencore_action usual = {.handler = (void *)SIG_DFL};
    gencore_sigset alarm = GENCORE_SIGNAL(SIGALRM);

    (void)raw4(SYS_rt_sigaction, SIGALRM, &usual, NULL, sizeof(gencore_sigset));
    (void)raw4(SYS_rt_sigprocmask, SIG_UNBLOCK, &alarm, NULL, sizeof(gencore_sigset));
    (void)raw3(SYS_setitimer, ITIMER_REAL, &limit, NULL);
    gencore_set_captured(&forked.calling);
    return gencore_trace_main(trace);
}

/* Name a file of this process in the run's folder. */
static void
name_answer(uint32_t pid, const char *suffix)
{
    struct safe_text text = safe_text_in(forked.path, sizeof(forked.path));

    safe_put(&text, forked.answers);
    safe_put_number(&text, pid, 1);
    safe_put(&text, suffix);
}

/* The FIFO for an answer, if a collector of our user reads it; or -errno. */
static long
open_answer(uint32_t pid)
{
    struct stat status;
    long fd;

    name_answer(pid, "");
    fd = raw4(SYS_openat, AT_FDCWD, forked.path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0) {
        return fd;
    }
    if (raw2(SYS_fstat, fd, &status) < 0 || !S_ISFIFO(status.st_mode)
        || status.st_uid != (uid_t)raw0(SYS_geteuid)
        || raw3(SYS_fcntl, fd, F_SETFL, O_WRONLY) < 0) {
        (void)raw1(SYS_close, fd);
        return -EPERM;
    }
    return fd;
}

/* Let a copy of the child write into `fd`. */
static void
write_in_copy(void (*function)(int), int signal, long fd)
{
    struct gencore_copy_call call = {.function = function, .signal = signal, .output = (int)fd};
    long copy;

    if (function) {
        /* No signal at its end: nobody's SIGCHLD, and no other wait(2) sees it. */
        copy = gencore_clone(0, copy_stack + sizeof(copy_stack), copy_main, &call, NULL);
        while (copy > 0 && raw4(SYS_wait4, copy, NULL, __WALL, NULL) == -EINTR) {
        }
    }
}

static void
answer(long fd, void *context)
{
    struct gencore_trace trace = gencore_find_trace();

    forked.calling = (struct gencore_thread){0};
    gencore_registers_from_context(&forked.calling, context);
    write_in_copy(trace.function, trace.all_threads_signal, fd);
    (void)safe_write_all((int)fd, "", 1);
    write_in_copy(gencore_probe(), 0, fd);
}

/* On the thread that the kernel has chosen: the first one, if it does not block the signal. */
static void
on_ask(int signal, siginfo_t *info, void *context)
{
    uint32_t pid = (uint32_t)raw0(SYS_getpid);
    long fd;

    (void)signal;
    if (info->si_code != SI_USER || pid == (uint32_t)forked.owner
        || __atomic_exchange_n(&forked.answering, pid, __ATOMIC_ACQ_REL) == pid) {
        return;
    }
    fd = open_answer(pid);
    if (fd >= 0) {
        answer(fd, context);
        (void)raw1(SYS_close, fd); /* before the capture: its end is waited for */
    }
    name_answer(pid, ".dump");
    if (forked.dump && raw3(SYS_unlinkat, AT_FDCWD, forked.path, 0) == 0) {
        struct gencore_result result;

        gencore_capture_in_handler(forked.dump, 0, (struct gencore_usage){0}, NULL, context,
                                   &result);
    }
    __atomic_store_n(&forked.answering, 0, __ATOMIC_RELEASE);
}

static const struct gencore_action ask_action = {
    .handler = (void *)on_ask,
    .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK,
    .mask = ~(gencore_sigset)0,
};

static int
set_answers(const char *answers, int32_t owner)
{
    struct safe_text text = safe_text_in(forked.answers, sizeof(forked.answers));

    if (safe_length(answers) >= sizeof(forked.answers)) {
        return -ENAMETOOLONG;
    }
    safe_put(&text, answers);
    forked.owner = owner;
    return 0;
}

int
gencore_arm_forked(const char *answers)
{
    struct gencore_action previous, action = ask_action;
    int signal;

    if (gencore_has_signal(forked.signal, (void *)on_ask)) {
        return 0;
    }
    signal = set_answers(answers, (int32_t)raw0(SYS_getpid));
    if (signal == 0) {
        action.flags |= gencore_restorer_flag;
        action.restorer = gencore_restorer;
        signal = gencore_take_signal(&action, &previous);
    }
    forked.signal = signal > 0 ? signal : 0;
    return signal > 0 ? 0 : signal;
}

int
gencore_arm_spawned(const char *answers, int signal)
{
    struct gencore_action action = ask_action, current;
    int error = set_answers(answers, 0);

    action.flags |= gencore_restorer_flag;
    action.restorer = gencore_restorer;
    if (error == 0) {
        error = (int)raw4(SYS_rt_sigaction, signal, NULL, &current, sizeof(gencore_sigset));
    }
    if (error == 0 && current.handler != (void *)SIG_DFL) {
        error = -EBUSY;
    }
    if (error == 0) {
        error = (int)raw4(SYS_rt_sigaction, signal, &action, NULL, sizeof(gencore_sigset));
    }
    forked.signal = error == 0 ? signal : 0;
    return error;
}

void
gencore_set_dump_standby(const struct gencore_standby *standby)
{
    __atomic_store_n(&forked.dump, standby, __ATOMIC_SEQ_CST);
}

void
gencore_release_forked(void)
{
    gencore_give_signal_back(forked.signal, (void *)on_ask);
    forked.signal = 0;
}

int
gencore_forked_signal(void)
{
    return gencore_has_signal(forked.signal, (void *)on_ask) ? forked.signal : 0;
}
