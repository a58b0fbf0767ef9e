/*
 * driver.c - the engine without Python, so that sanitizers and other architectures can judge it.
 *
 *   driver MODE COLLECTOR DIRECTORY [COUNT]
 *
 * Linked with every file of csrc but module.c. Prints what the tests compare; ends with status 0 only if
 * the mode came to its end. An alarm ends it if something hangs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gencore.h"
#include "signal_safe.h"

#define RUN_NAME ".run"
#define LIMIT_SECONDS 100

static char marker[] = "here is the marker";
static struct gencore_plan plan;
static char request_text[PATH_MAX + 64];
static int finished;

_Noreturn static void
die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

static void
expect(int condition, const char *what)
{
    if (!condition) {
        die("not so: %s (errno %d)", what, errno);
    }
}

static int
thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

static int
is_finished(void)
{
    return __atomic_load_n(&finished, __ATOMIC_ACQUIRE);
}

static pthread_t
start_thread_of(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    expect(pthread_create(&thread, &attributes, function, argument) == 0, "a thread starts");
    pthread_attr_destroy(&attributes);
    return thread;
}

/* ---- captures ------------------------------------------------------------------------------------ */

/* Signal safe. The stage of the failure, 0 for success. */
static int
capture(struct gencore_result *result)
{
    struct gencore_request request = {
        .text = request_text,
        .text_size = strlen(request_text),
        .core_filter = 0,
        .stop_threads = 1,
    };

    (void)gencore_capture(&plan, &request, result);
    return result->stage;
}

static void
capture_or_die(struct gencore_result *result)
{
    if (capture(result) != GENCORE_STAGE_NONE) {
        die("capture failed at stage %d with errno %d", result->stage, result->error);
    }
}

/* Wait until the collector has released its state file, then copy what it wrote to standard output. */
static void
show_report(const struct gencore_result *result)
{
    char path[PATH_MAX], buffer[4096];
    ssize_t count;
    int fd;

    snprintf(path, sizeof(path), "%s/" RUN_NAME "/%s.json", plan.directory, result->name);
    fd = open(path, O_RDONLY);
    expect(fd >= 0, "there is a state file");
    expect(flock(fd, LOCK_SH) == 0, "the collector ends");
    close(fd);
    snprintf(path, sizeof(path), "%s/%s.tar.gz.partial", plan.directory, result->name);
    fd = open(path, O_RDONLY);
    expect(fd >= 0, "there is an archive file");
    fflush(stdout);
    while ((count = read(fd, buffer, sizeof(buffer))) > 0) {
        expect(write(STDOUT_FILENO, buffer, (size_t)count) == count, "the report can be shown");
    }
    close(fd);
}

/* ---- threads: N threads blocked in sem_wait ------------------------------------------------------ */

static sem_t arrived, gate;

static void *
wait_at_gate(void *argument)
{
    (void)argument;
    printf("tid %d\n", thread_id());
    sem_post(&arrived);
    while (sem_wait(&gate) < 0) {
        die("sem_wait was interrupted");
    }
    return NULL;
}

static void
run_threads(int count)
{
    pthread_t *threads = calloc((size_t)count + 1, sizeof(*threads));
    struct gencore_result result;

    expect(threads != NULL, "there is memory");
    printf("tid %d\n", thread_id());
    for (int i = 0; i < count; i++) {
        threads[i] = start_thread_of(wait_at_gate, NULL);
    }
    for (int i = 0; i < count; i++) {
        sem_wait(&arrived);
    }
    capture_or_die(&result);
    show_report(&result);
    for (int i = 0; i < count; i++) {
        sem_post(&gate);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
}

/* ---- steps: a capture for each byte on standard input -------------------------------------------- */

static void
run_steps(int count)
{
    pthread_t waiting = start_thread_of(wait_at_gate, NULL);
    struct gencore_result result;

    sem_wait(&arrived);
    for (int i = 0; i < count; i++) {
        expect(getchar() != EOF, "the test says when");
        capture_or_die(&result);
    }
    sem_post(&gate);
    pthread_join(waiting, NULL);
}

/* ---- pair: two threads capture at the same time -------------------------------------------------- */

static int captures_each;

static void *
capture_many(void *argument)
{
    int *counts = argument; /* done, busy */

    for (int i = 0; i < captures_each; i++) {
        struct gencore_result result;
        int stage = capture(&result);

        if (stage != GENCORE_STAGE_NONE && stage != GENCORE_STAGE_BUSY) {
            die("capture failed at stage %d with errno %d", stage, result.error);
        }
        counts[stage == GENCORE_STAGE_BUSY]++;
    }
    return NULL;
}

static void
run_pair(int count)
{
    int first[2] = {0}, second[2] = {0};
    pthread_t threads[2];

    captures_each = count;
    threads[0] = start_thread_of(capture_many, first);
    threads[1] = start_thread_of(capture_many, second);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("done %d busy %d\n", first[0] + second[0], first[1] + second[1]);
}

/* ---- nested: a signal handler captures whatever it interrupts ------------------------------------- */

static int nested[2]; /* done, busy */
static sem_t handled;

static void
capture_in_handler(int signal)
{
    int before = errno;
    struct gencore_result result;
    int stage = capture(&result);

    (void)signal;
    if (stage == GENCORE_STAGE_NONE || stage == GENCORE_STAGE_BUSY) {
        nested[stage == GENCORE_STAGE_BUSY]++;
    }
    sem_post(&handled);
    errno = before;
}

/* One signal at a time, each as soon as the last one was handled: mostly in the midst of a capture. */
static void *
send_signals(void *main_thread)
{
    while (!is_finished()) {
        pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
        sem_wait(&handled);
    }
    return NULL;
}

static void
run_nested(int count)
{
    struct sigaction action = {.sa_handler = capture_in_handler, .sa_flags = SA_RESTART};
    pthread_t main_thread = pthread_self(), sender;
    int outer[2] = {0};

    expect(sigaction(SIGUSR1, &action, NULL) == 0, "the handler is set");
    captures_each = count;
    sender = start_thread_of(send_signals, &main_thread);
    (void)capture_many(outer);
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    pthread_join(sender, NULL);
    printf("done %d busy %d nested %d busy %d\n", outer[0], outer[1], nested[0], nested[1]);
}

/* ---- masked: a thread blocks every signal --------------------------------------------------------- */

static void *
mask_everything(void *argument)
{
    sigset_t all, before;

    (void)argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    printf("masked %d\n", thread_id());
    sem_post(&arrived);
    sem_wait(&gate);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_post(&arrived);
    sem_wait(&gate);
    return NULL;
}

static void
run_masked(int count)
{
    pthread_t thread = start_thread_of(mask_everything, NULL);
    struct gencore_result result;

    (void)count;
    for (int round = 0; round < 2; round++) {
        sem_wait(&arrived);
        printf("round %d\n", round);
        capture_or_die(&result);
        show_report(&result);
        sem_post(&gate);
    }
    pthread_join(thread, NULL);
}

/* ---- owned: a capture that was refused does not let another one's threads go ------------------------- */

static char gate_path[PATH_MAX];
static unsigned long turns;
static int refused_stage, was_disturbed;

static void *
count_turns(void *argument)
{
    (void)argument;
    while (!is_finished()) {
        (void)__atomic_add_fetch(&turns, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static unsigned long
count_for_a_moment(void)
{
    unsigned long before = __atomic_load_n(&turns, __ATOMIC_RELAXED);

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 100 * 1000 * 1000}, NULL);
    return __atomic_load_n(&turns, __ATOMIC_RELAXED) - before;
}

/* The thread that is not stopped, for it blocks every signal. Opening the gate waits for the collector. */
static void *
capture_beside(void *argument)
{
    struct gencore_result result;
    sigset_t all;
    int fd;

    (void)argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    sem_post(&arrived);
    fd = open(gate_path, O_WRONLY | O_CLOEXEC);
    refused_stage = capture(&result);
    was_disturbed = count_for_a_moment() > 0;
    close(fd);
    return NULL;
}

static void
run_owned(int count)
{
    struct gencore_result result;
    struct gencore_request request = {.text_size = 0, .stop_threads = 1, .hold_ns = 30 * 1000000000LL};
    pthread_t counter = start_thread_of(count_turns, NULL), other;

    (void)count;
    snprintf(gate_path, sizeof(gate_path), "%s/gate", plan.directory);
    expect(mkfifo(gate_path, 0600) == 0, "a FIFO");
    snprintf(request_text, sizeof(request_text), "%lx %lx %s", (unsigned long)(uintptr_t)marker,
             strlen(marker), gate_path);
    request.text = request_text;
    request.text_size = strlen(request_text);
    other = start_thread_of(capture_beside, NULL);
    sem_wait(&arrived);
    expect(gencore_capture(&plan, &request, &result) == 0, "the first capture is taken");
    pthread_join(other, NULL);
    expect(count_for_a_moment() > 0, "the threads go on");
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    pthread_join(counter, NULL);
    printf("refused %d disturbed %d\n", refused_stage, was_disturbed);
    show_report(&result);
}

/* ---- alarm: the alarm behind a deadline comes to the thread that it is for --------------------------- */

static int main_tid, alarm_tid;

static void
note_alarm(int signal)
{
    (void)signal;
    __atomic_store_n(&alarm_tid, thread_id(), __ATOMIC_RELEASE);
}

static int
main_thread_blocks(int signal)
{
    char path[64], value[32];
    const char *at = value;

    snprintf(path, sizeof(path), "/proc/self/task/%d/status", main_tid);
    return safe_read_field(path, "SigBlk:\t", value, sizeof(value)) > 0 && (safe_hex(&at) >> (signal - 1) & 1);
}

/* Send the alarm in the midst of each capture. This thread takes no signal itself. */
static void *
send_alarms(void *argument)
{
    sigset_t all;

    (void)argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    sem_post(&arrived);
    while (sem_wait(&gate) == 0 && !is_finished()) {
        while (!main_thread_blocks(SIGUSR1)) {
        }
        (void)kill(getpid(), SIGALRM);
        sem_post(&handled);
    }
    return NULL;
}

static void
run_alarm(int count)
{
    struct sigaction action = {.sa_handler = note_alarm, .sa_flags = SA_RESTART};
    struct gencore_standby standby = {
        .plan = &plan, .request = {.text = request_text, .text_size = strlen(request_text), .stop_threads = 1}};
    pthread_t counter = start_thread_of(count_turns, NULL), sender;
    struct gencore_result result;
    int wrong = 0;

    alarm(0);
    main_tid = thread_id();
    expect(sigaction(SIGALRM, &action, NULL) == 0, "the handler is set");
    sender = start_thread_of(send_alarms, NULL);
    sem_wait(&arrived);
    for (int round = 0; round < count; round++) {
        alarm_tid = 0;
        sem_post(&gate);
        expect(gencore_set_deadline(GENCORE_DEADLINE_PYTEST_TIMEOUT, 1000000, &standby, 0) == 0, "a deadline");
        while (!gencore_deadline_fired(GENCORE_DEADLINE_PYTEST_TIMEOUT, &result)
               || !__atomic_load_n(&alarm_tid, __ATOMIC_ACQUIRE)) {
            sched_yield();
        }
        while (sem_wait(&handled) < 0) {
        }
        expect(result.stage == GENCORE_STAGE_NONE, "the capture is taken");
        wrong += alarm_tid != main_tid;
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    sem_post(&gate);
    pthread_join(sender, NULL);
    pthread_join(counter, NULL);
    printf("misled %d\n", wrong);
}

/* ---- contracts: what functions return when something is wrong ----------------------------------------- */

static void
run_contracts(int count)
{
    struct gencore_request request = {.text = ""};
    struct gencore_plan full = plan;
    struct gencore_capture attempt = {.plan = &full, .request = &request};
    struct gencore_files files = GENCORE_NO_FILES;
    char text[64];
    int error;

    (void)count;
    printf("directory %ld\n", safe_read_file("/", text, sizeof(text)));
    printf("memory %ld\n", safe_read_file("/proc/self/mem", text, sizeof(text)));
    printf("missing %ld\n", safe_read_file("/no such file", text, sizeof(text)));
    full.max_captures = 0;
    error = gencore_open_files(&attempt, &files);
    printf("refused %d %d\n", error, attempt.result.stage);
    gencore_remove_files(&attempt, &files);
}

/* ---- fields: lines of a file that is read in pieces ---------------------------------------------------- */

static void
show_field(const char *path, const char *label)
{
    char value[16];
    long size = safe_read_field(path, label, value, sizeof(value));

    printf("field %ld %s\n", size, size >= 0 ? value : "");
}

static void
run_fields(int count)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/fields", plan.directory);
    file = fopen(path, "w");
    expect(file != NULL, "a file");
    fprintf(file, "First:\tone\nGroups:\t");
    for (int i = 0; i < count; i++) {
        fprintf(file, "%d ", i);
    }
    fprintf(file, "\nNot First:\tx\nLong:\tthis value is cut because it is long\nLast:\tend");
    fclose(file);
    show_field(path, "First:\t");
    show_field(path, "Long:\t");
    show_field(path, "Last:\t");
    show_field(path, "Missing:\t");
    show_field(plan.directory, "First:\t");
}

/* ---- notes: captures while another thread adds notes ---------------------------------------------------- */

#define NOTES_A_ROUND 100

static void *
add_notes(void *argument)
{
    uint64_t numbers[512] = {0}; /* each note counts on from the one before */
    uint64_t next = 1;

    (void)argument;
    while (sem_wait(&gate) == 0 && !is_finished()) {
        for (int i = 0; i < 512; i++) {
            numbers[i] = next++;
        }
        expect(gencore_note(numbers, sizeof(numbers)) == 0, "there is room for notes");
    }
    return NULL;
}

static void
run_notes(int count)
{
    pthread_t writer = start_thread_of(add_notes, NULL);
    struct gencore_result result;

    for (int i = 0; i < count; i++) {
        for (int notes = 0; notes < NOTES_A_ROUND; notes++) {
            sem_post(&gate);
        }
        capture_or_die(&result);
        show_report(&result);
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    sem_post(&gate);
    pthread_join(writer, NULL);
}

/* ---- churn: threads that start and join short-lived threads --------------------------------------- */

#define CHURNERS 8

static unsigned long ran;

static void *
end_at_once(void *argument)
{
    (void)argument;
    (void)__atomic_add_fetch(&ran, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void *
churn(void *argument)
{
    unsigned long *started = argument;

    sem_post(&arrived);
    while (!is_finished()) {
        pthread_join(start_thread_of(end_at_once, NULL), NULL);
        ++*started;
    }
    return NULL;
}

static void
run_churn(int count)
{
    unsigned long started[CHURNERS] = {0}, sum = 0;
    pthread_t threads[CHURNERS];
    struct gencore_result result;

    for (int i = 0; i < CHURNERS; i++) {
        threads[i] = start_thread_of(churn, &started[i]);
    }
    for (int i = 0; i < CHURNERS; i++) {
        sem_wait(&arrived);
    }
    for (int i = 0; i < count; i++) {
        capture_or_die(&result);
        show_report(&result);
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < CHURNERS; i++) {
        pthread_join(threads[i], NULL);
        sum += started[i];
    }
    printf("healthy %d\n", sum == ran && sum > 0);
}

/* ---- calls: which system calls say EINTR ----------------------------------------------------------- */

static int pipe_fds[2], socket_fds[2], timed_socket_fds[2], epoll_fd, queue, semaphore, futex_word;
static char fifo_path[PATH_MAX], lock_path[PATH_MAX];
static sem_t never;
static pid_t child;

static const struct timespec hour = {3600, 0};
static const struct timeval hour_short = {3600, 0};

static long
call_read(void)
{
    char byte;
    return read(pipe_fds[0], &byte, 1);
}

static long
call_open(void)
{
    return open(fifo_path, O_WRONLY);
}

static long
call_recv(void)
{
    char byte;
    return recv(socket_fds[0], &byte, 1, 0);
}

static long
call_recv_timeout(void)
{
    char byte;
    return recv(timed_socket_fds[0], &byte, 1, 0);
}

static long
call_waitpid(void)
{
    return waitpid(child, NULL, 0);
}

static long
call_flock(void)
{
    int fd = open(lock_path, O_RDWR | O_CLOEXEC);
    long result = flock(fd, LOCK_EX);
    int error = errno;

    close(fd);
    errno = error;
    return result;
}

static long
call_fcntl_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(lock_path, O_RDWR | O_CLOEXEC);
    long result = fcntl(fd, F_OFD_SETLKW, &lock);
    int error = errno;

    close(fd);
    errno = error;
    return result;
}

static long
call_futex(void)
{
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL);
}

static long
call_futex_timeout(void)
{
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &hour);
}

static long
call_sem_wait(void)
{
    return sem_wait(&never);
}

static long
call_sem_timedwait(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3600;
    return sem_timedwait(&never, &until);
}

static long
call_nanosleep(void)
{
    return nanosleep(&hour, NULL);
}

static long
call_clock_nanosleep(void)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 3600;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return errno ? -1 : 0;
}

static long
call_poll(void)
{
    struct pollfd wanted = {.fd = pipe_fds[0], .events = POLLIN};
    return poll(&wanted, 1, -1);
}

static long
call_select(void)
{
    fd_set wanted;
    struct timeval timeout = hour_short;

    FD_ZERO(&wanted);
    FD_SET(pipe_fds[0], &wanted);
    return select(pipe_fds[0] + 1, &wanted, NULL, NULL, &timeout);
}

static long
call_epoll_wait(void)
{
    struct epoll_event event;
    return epoll_wait(epoll_fd, &event, 1, -1);
}

static long
call_pause(void)
{
    return pause();
}

static long
call_sigsuspend(void)
{
    sigset_t none;

    sigemptyset(&none);
    return sigsuspend(&none);
}

static long
call_sigtimedwait(void)
{
    sigset_t wanted;

    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR2);
    return sigtimedwait(&wanted, NULL, &hour);
}

static long
call_semop(void)
{
    struct sembuf operation = {.sem_op = -1};
    return semop(semaphore, &operation, 1);
}

static long
call_msgrcv(void)
{
    struct {
        long type;
        char text[8];
    } message;

    return msgrcv(queue, &message, sizeof(message.text), 0, 0);
}

static struct call {
    const char *name;
    long (*function)(void);
    int tid;
    unsigned int interrupted;
} calls[] = {
    {"read", call_read, 0, 0},
    {"open-fifo", call_open, 0, 0},
    {"recv", call_recv, 0, 0},
    {"recv-SO_RCVTIMEO", call_recv_timeout, 0, 0},
    {"waitpid", call_waitpid, 0, 0},
    {"flock", call_flock, 0, 0},
    {"fcntl-F_OFD_SETLKW", call_fcntl_lock, 0, 0},
    {"futex", call_futex, 0, 0},
    {"futex-timeout", call_futex_timeout, 0, 0},
    {"sem_wait", call_sem_wait, 0, 0},
    {"sem_timedwait", call_sem_timedwait, 0, 0},
    {"nanosleep", call_nanosleep, 0, 0},
    {"clock_nanosleep-absolute", call_clock_nanosleep, 0, 0},
    {"poll", call_poll, 0, 0},
    {"select", call_select, 0, 0},
    {"epoll_wait", call_epoll_wait, 0, 0},
    {"pause", call_pause, 0, 0},
    {"sigsuspend", call_sigsuspend, 0, 0},
    {"sigtimedwait", call_sigtimedwait, 0, 0},
    {"semop", call_semop, 0, 0},
    {"msgrcv", call_msgrcv, 0, 0},
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

static void *
call_for_ever(void *argument)
{
    struct call *call = argument;

    __atomic_store_n(&call->tid, thread_id(), __ATOMIC_RELEASE);
    for (;;) {
        if ((call->function() >= 0 || errno != EINTR) && !is_finished()) {
            die("%s came back with errno %d", call->name, errno);
        }
        (void)__atomic_add_fetch(&call->interrupted, 1, __ATOMIC_ACQ_REL);
    }
}

static void
prepare_calls(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fd;

    expect(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds) == 0
               && socketpair(AF_UNIX, SOCK_STREAM, 0, timed_socket_fds) == 0, "pipe and sockets");
    expect(setsockopt(timed_socket_fds[0], SOL_SOCKET, SO_RCVTIMEO, &hour_short, sizeof(hour_short)) == 0,
           "a receive timeout");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    expect(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0, "an epoll");
    queue = msgget(IPC_PRIVATE, 0600);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    expect(queue >= 0 && semaphore >= 0, "System V IPC");
    snprintf(fifo_path, sizeof(fifo_path), "%s/fifo", plan.directory);
    expect(mkfifo(fifo_path, 0600) == 0, "a FIFO");
    snprintf(lock_path, sizeof(lock_path), "%s/lock", plan.directory);
    fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    expect(flock(fd, LOCK_EX) == 0, "a lock");
    expect(fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}) == 0, "a lock");
    child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        pause();
        _exit(0);
    }
}

/* A thread sleeps in a call when the kernel says so: state S, and inside a system call. */
static int
is_blocked(int tid)
{
    char path[64], text[512] = "";
    ssize_t count;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    count = read(fd, text, sizeof(text) - 1);
    close(fd);
    return count > 0 && text[0] != 'r' && text[0] != '-';
}

static void
run_calls(int count)
{
    struct gencore_result result;

    prepare_calls();
    for (size_t i = 0; i < CALLS; i++) {
        pthread_detach(start_thread_of(call_for_ever, &calls[i]));
        while (!__atomic_load_n(&calls[i].tid, __ATOMIC_ACQUIRE)) {
            sched_yield();
        }
    }
    for (int round = 0; round < count; round++) {
        for (size_t i = 0; i < CALLS; i++) {
            while (!is_blocked(calls[i].tid)) {
                sched_yield();
            }
        }
        capture_or_die(&result);
    }
    for (size_t i = 0; i < CALLS; i++) {
        while (!is_blocked(calls[i].tid)) {
            sched_yield();
        }
        printf("call %s %u\n", calls[i].name, __atomic_load_n(&calls[i].interrupted, __ATOMIC_ACQUIRE));
    }
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    msgctl(queue, IPC_RMID, NULL);
    semctl(semaphore, 0, IPC_RMID);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fflush(stdout);
    _exit(0);
}

/* ---- registers: the architecture's part by itself; also under an emulator -------------------------- */

#if defined(__x86_64__)
enum { PC_INDEX = 16, SP_INDEX = 19 };
#else
enum { PC_INDEX = 32, SP_INDEX = 31 };
#endif

static struct gencore_thread from_handler;
static double seen_in_handler;

static double
floating_point_of(const struct gencore_thread *thread)
{
#if defined(__x86_64__)
    const char *at = (const char *)(uintptr_t)thread->fp_address + 160 + 16 * 15; /* xmm15 in FXSAVE */
#else
    const char *at = (const char *)(uintptr_t)thread->fp_address + 16 + 16 * 15; /* v15, fpsimd_context */
#endif
    double value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static void
save_in_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    gencore_registers_from_context(&from_handler, context);
    if (from_handler.fp_address) {
        seen_in_handler = floating_point_of(&from_handler);
    }
}

/* Send a signal to ourselves with a known value in a vector register. */
__attribute__((noinline)) static void
raise_with_value(double value)
{
    long pid = getpid(), tid = thread_id();

#if defined(__x86_64__)
    long result = SYS_tgkill;
    __asm__ volatile("movsd %1, %%xmm15\n\tsyscall"
                     : "+a"(result)
                     : "m"(value), "D"(pid), "S"(tid), "d"((long)SIGUSR1)
                     : "rcx", "r11", "xmm15", "memory");
#else
    register long x8 __asm__("x8") = SYS_tgkill;
    register long x0 __asm__("x0") = pid;
    register long x1 __asm__("x1") = tid;
    register long x2 __asm__("x2") = SIGUSR1;
    __asm__ volatile("ldr d15, %4\n\tsvc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "m"(value)
                     : "v15", "memory");
#endif
}

static int
is_near(uint64_t address, const void *function)
{
    return address >= (uint64_t)(uintptr_t)function && address < (uint64_t)(uintptr_t)function + 16384;
}

static int
end_with_value(void *value)
{
    return *(int *)value;
}

static void
check_handler_registers(void)
{
    struct sigaction action = {.sa_sigaction = save_in_handler, .sa_flags = SA_SIGINFO};
    char here;

    expect(sigaction(SIGUSR1, &action, NULL) == 0, "the handler is set");
    raise_with_value(1234.5);
    expect(is_near(from_handler.regs[PC_INDEX], (const void *)raise_with_value), "the pc is where it was");
    expect(from_handler.regs[SP_INDEX] < (uint64_t)(uintptr_t)&here + 65536
               && from_handler.regs[SP_INDEX] + 65536 > (uint64_t)(uintptr_t)&here, "the sp is in our stack");
    expect(seen_in_handler == 1234.5, "the vector register has its value");
    expect(from_handler.tls != 0, "the thread pointer is known");
    printf("handler ok\n");
}

static void
check_own_registers(void)
{
    struct gencore_thread own = {0};
    uint64_t size = gencore_floating_point_size();
    void *area = aligned_alloc(64, (size + 63) / 64 * 64);

    expect(area != NULL, "there is memory");
    memset(area, 0, size);
    gencore_save_registers(own.regs);
    gencore_save_floating_point(&own, area, size);
    expect(is_near(own.regs[PC_INDEX], (const void *)check_own_registers), "the pc is ours");
    expect(own.fp_address == (uint64_t)(uintptr_t)area && own.fp_size == size, "the area is known");
    expect(own.tls == from_handler.tls, "the thread pointer is the same");
    free(area);
    printf("own ok\n");
}

static void
check_clone(void)
{
    static _Alignas(16) char stack[65536];
    int value = 37, status;
    long pid = gencore_clone(SIGCHLD, stack + sizeof(stack), end_with_value, &value, NULL);

    expect(pid > 0 && waitpid((pid_t)pid, &status, 0) == pid, "a child is made");
    expect(WIFEXITED(status) && WEXITSTATUS(status) == value, "it ends with the function's result");
    printf("clone ok\n");
}

static void
run_registers(int count)
{
    (void)count;
    check_handler_registers();
    check_own_registers();
    check_clone();
}

/* ---- stop: stopping threads from within the process, without helpers; also under an emulator -------- */

#define SLOTS 64

static void
run_stop(int count)
{
    static struct gencore_thread slots[SLOTS];
    struct gencore_threads table = {.slots = slots, .capacity = SLOTS, .epoch = 1};
    struct gencore_action previous;
    pthread_t *threads = calloc((size_t)count + 1, sizeof(*threads));

    expect(threads != NULL, "there is memory");
    for (int i = 0; i < count; i++) {
        threads[i] = start_thread_of(wait_at_gate, NULL);
        sem_wait(&arrived);
    }
    (void)signal(GENCORE_SIGNAL_COUNT, SIG_IGN); /* taken; and qemu 7.2 refuses to send these two */
    (void)signal(GENCORE_SIGNAL_COUNT - 1, SIG_IGN);
    expect(gencore_arm(&table, &previous) == 0, "a signal is free");
    expect(table.signal == GENCORE_SIGNAL_COUNT - 2, "it is the next one");
    printf("signal %d\n", table.signal);
    expect(gencore_stop(&table, getpid(), thread_id()) == 0, "the threads are stopped");
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].tid) {
            printf("slot %d %u %d\n", slots[i].tid, slots[i].state, slots[i].regs[PC_INDEX] != 0);
        }
    }
    gencore_release(&table);
    gencore_disarm(&table, &previous);
    for (int i = 0; i < count; i++) {
        sem_post(&gate);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
}

/* ---- main ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(int count);
} modes[] = {
    {"threads", run_threads}, {"steps", run_steps}, {"pair", run_pair},
    {"nested", run_nested},   {"masked", run_masked}, {"churn", run_churn},
    {"owned", run_owned}, {"alarm", run_alarm},     {"contracts", run_contracts}, {"fields", run_fields}, {"notes", run_notes},     {"calls", run_calls},     {"stop", run_stop},     {"registers", run_registers},
};

int
main(int argc, char **argv)
{
    static char *environment[] = {NULL};
    char *collector[] = {NULL, NULL};

    if (argc < 4) {
        die("usage: driver MODE COLLECTOR DIRECTORY [COUNT]");
    }
    alarm(LIMIT_SECONDS);
    setvbuf(stdout, NULL, _IOLBF, 0);
    collector[0] = argv[2];
    plan = (struct gencore_plan){
        .argv = collector, .envp = environment, .directory = argv[3], .run_name = RUN_NAME,
        .stderr_fd = -1,
        .max_captures = -1};
    snprintf(request_text, sizeof(request_text), "%lx %lx", (unsigned long)(uintptr_t)marker, strlen(marker));
    sem_init(&arrived, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&handled, 0, 0);
    sem_init(&never, 0, 0);
    expect(gencore_prepare((uint32_t)sysconf(_SC_PAGESIZE), 0) == 0, "the engine can be prepared");
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run(argc > 4 ? atoi(argv[4]) : 1);
            printf("finished\n");
            return 0;
        }
    }
    die("unknown mode %s", argv[1]);
}
