/* driver_calls.c - which system calls say EINTR when a thread is stopped in them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
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

#include "driver.h"

static sem_t never;

/* ---- calls: which system calls say EINTR ------------------------------------------ */

static int pipe_fds[2], socket_fds[2], timed_socket_fds[2], epoll_fd, queue, semaphore, futex_word;
static char fifo_path[PATH_MAX], lock_path[PATH_MAX];
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

    expect(sem_init(&never, 0, 0) == 0, "a semaphore");
    expect(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds) == 0
               && socketpair(AF_UNIX, SOCK_STREAM, 0, timed_socket_fds) == 0,
           "pipe and sockets");
    expect(setsockopt(timed_socket_fds[0], SOL_SOCKET, SO_RCVTIMEO, &hour_short, sizeof(hour_short))
               == 0,
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
    expect(fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}) == 0,
           "a lock");
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

void
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
        printf("call %s %u\n", calls[i].name,
               __atomic_load_n(&calls[i].interrupted, __ATOMIC_ACQUIRE));
    }
    finish();
    msgctl(queue, IPC_RMID, NULL);
    semctl(semaphore, 0, IPC_RMID);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fflush(stdout);
    _exit(0);
}
