/*
 * forked.c - children by fork tell what they wait for: they have inherited this handler.
 *
 * A collector sends the signal to a child of the process that it describes. The handler lets a copy
 * of the child run the probe, which writes into a FIFO that the collector has made in the run's
 * folder. The copy has one thread, that of the handler, as copies of snapshots have.
 */
#include <linux/wait.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "gencore.h"
#include "signal_safe.h"

#define STACK_SIZE 16384
#define PATH_SIZE 4096
#define ANSWER_US 700000 /* ANSWER_SECONDS in collector/diagnosis/forked.py, and a little more */

static struct {
    int signal;         /* 0: none is chosen */
    int32_t owner;      /* the process that was armed; its children answer */
    uint32_t answering; /* process that answers; a fork meanwhile leaves that of its parent */
    int output;
    char answers[PATH_SIZE];   /* path of an answer without the number at its end */
    char path[PATH_SIZE + 16]; /* of the answer */
    struct gencore_thread calling;
} forked;

static _Alignas(64) char copy_stack[STACK_SIZE];

/* The copy of the child. It is killed when its time is over or the thread it is a copy of ends. */
static int
copy_main(void *trace)
{
    static const struct itimerval limit = {.it_value = {.tv_usec = ANSWER_US}};
    struct gencore_action usual = {.handler = (void *)SIG_DFL};
    gencore_sigset alarm = 1ULL << (SIGALRM - 1);

    (void)raw4(SYS_rt_sigaction, SIGALRM, &usual, NULL, sizeof(gencore_sigset));
    (void)raw4(SYS_rt_sigprocmask, SIG_UNBLOCK, &alarm, NULL, sizeof(gencore_sigset));
    (void)raw3(SYS_setitimer, ITIMER_REAL, &limit, NULL);
    gencore_set_captured(&forked.calling);
    return gencore_trace_main(trace);
}

/* The FIFO for an answer, if a collector of our user reads it; or -errno. */
static long
open_answer(void)
{
    struct safe_text text = safe_text_in(forked.path, sizeof(forked.path));
    struct stat status;
    long fd;

    safe_put(&text, forked.answers);
    safe_put_number(&text, (uint64_t)raw0(SYS_getpid), 1);
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

/* On the thread that the kernel has chosen: the first one, if it does not block the signal. */
static void
on_ask(int signal, siginfo_t *info, void *context)
{
    uint32_t pid = (uint32_t)raw0(SYS_getpid);
    struct gencore_copy_call call = {.function = gencore_probe()};
    long fd, copy;

    (void)signal;
    if (info->si_code != SI_USER || pid == (uint32_t)forked.owner || !call.function
        || __atomic_exchange_n(&forked.answering, pid, __ATOMIC_ACQ_REL) == pid) {
        return;
    }
    fd = open_answer();
    if (fd >= 0) {
        forked.calling = (struct gencore_thread){0};
        gencore_registers_from_context(&forked.calling, context);
        call.output = (int)fd;
        /* No signal at its end: nobody's SIGCHLD, and no other wait(2) sees it. */
        copy = gencore_clone(0, copy_stack + sizeof(copy_stack), copy_main, &call, NULL);
        (void)raw1(SYS_close, fd);
        while (copy > 0 && raw4(SYS_wait4, copy, NULL, __WALL, NULL) == -EINTR) {
        }
    }
    __atomic_store_n(&forked.answering, 0, __ATOMIC_RELEASE);
}

int
gencore_arm_forked(const char *answers)
{
    struct gencore_action previous;
    struct gencore_action action = {
        .handler = (void *)on_ask,
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | gencore_restorer_flag,
        .restorer = gencore_restorer,
        .mask = ~(gencore_sigset)0,
    };
    struct safe_text text;
    int signal;

    if (gencore_has_signal(forked.signal, (void *)on_ask)) {
        return 0;
    }
    if (safe_length(answers) >= sizeof(forked.answers)) {
        return -ENAMETOOLONG;
    }
    text = safe_text_in(forked.answers, sizeof(forked.answers));
    safe_put(&text, answers);
    forked.owner = (int32_t)raw0(SYS_getpid);
    signal = gencore_take_signal(&action, &previous);
    forked.signal = signal > 0 ? signal : 0;
    return signal > 0 ? 0 : signal;
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
