/*
 * A process at rest: threads blocked in system calls, memory of known contents, and the engine in
 * C.
 *
 *   subject FILTER DIRECTORY RUN_NAME TEXT_FOR_COPY TEXT_FOR_CRASH COLLECTOR...
 *
 * Obeys one character a time on its standard input and answers with a line: p prepares the engine,
 * t starts the threads; c and k capture with the first or the second text; anything else ends it.
 * It uses no stdio and allocates nothing after the start, so that whatever else changes in its
 * memory is the engine's doing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gencore.h"

#define PAGE 4096
#define PAGES 64
#define FILE_PAGES \
    8 /* not beyond its end: gcore then gives up and writes zeros, also for what is there */

static sem_t never;
static uint32_t futex_word;
static int pipe_ends[2];
static char texts[2][65536];
static uint64_t pattern_in_data[1024] = {1};

static void *
wait_for_semaphore(void *argument)
{
    (void)sem_wait(&never);
    return argument;
}

static void *
wait_for_futex(void *argument)
{
    (void)syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL);
    return argument;
}

static void *
wait_in_poll(void *argument)
{
    struct pollfd entry = {.fd = pipe_ends[0], .events = POLLIN};

    errno = EINTR; /* what it will be after the first interruption */
    while (poll(&entry, 1, -1) < 0) {
    }
    return argument;
}

static void *
wait_in_sleep(void *argument)
{
    struct timespec time = {3600, 0};

    errno = EINTR;
    while (nanosleep(&time, NULL) < 0) {
    }
    return argument;
}

static void *
wait_in_read(void *argument)
{
    char byte;

    (void)!read(pipe_ends[0], &byte, 1);
    return argument;
}

static void *
wait_in_epoll(void *argument)
{
    struct epoll_event event = {0};
    int fd = epoll_create1(EPOLL_CLOEXEC);

    errno = EINTR;
    while (epoll_wait(fd, &event, 1, -1) < 0) {
    }
    return argument;
}

static void
fill(void *memory, size_t size, uint64_t seed)
{
    uint64_t *words = memory;

    for (size_t i = 0; i < size / sizeof(*words); i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        words[i] = seed;
    }
}

static char *
map_pages(int protection, int flags, int fd)
{
    size_t pages = fd < 0 ? PAGES : FILE_PAGES;
    char *memory = mmap(NULL, pages * PAGE, protection, flags, fd, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* A mapping of each kind; never freed. */
static void
make_memory(const char *program)
{
    const int both = PROT_READ | PROT_WRITE, anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    int fd = open(program, O_RDONLY | O_CLOEXEC);
    char *memory;

    fill(pattern_in_data, sizeof(pattern_in_data), 1);
    fill(malloc(50 * PAGE), 50 * PAGE, 2);
    fill(map_pages(both, anonymous, -1), PAGES * PAGE, 3);
    fill(map_pages(both, MAP_SHARED | MAP_ANONYMOUS, -1), PAGES * PAGE, 4);
    memory = map_pages(both, anonymous, -1); /* every fourth page */
    for (int i = 0; i < PAGES; i += 4) {
        fill(memory + i * PAGE, PAGE, 5);
    }
    memory = map_pages(both, anonymous, -1); /* written, then read only */
    fill(memory, PAGES * PAGE, 6);
    (void)mprotect(memory, PAGES * PAGE, PROT_READ);
    memory = map_pages(both, anonymous, -1);
    fill(memory, PAGES * PAGE, 7);
    (void)madvise(memory, PAGES * PAGE, MADV_DONTDUMP);
    memory = map_pages(both, MAP_PRIVATE, fd); /* of a file, one page changed */
    fill(memory, PAGE, 8);
    (void)map_pages(PROT_READ, MAP_PRIVATE, fd);
    (void)map_pages(PROT_READ, MAP_SHARED, fd);
    (void)map_pages(both, anonymous, -1); /* never touched */
    (void)map_pages(PROT_NONE, anonymous, -1);
}

static void
start_threads(void)
{
    void *(*const functions[])(void *) = {wait_for_semaphore, wait_for_futex, wait_in_poll,
                                          wait_in_sleep,      wait_in_read,   wait_in_epoll};
    pthread_t thread;

    for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
        (void)pthread_create(&thread, NULL, functions[i], NULL);
    }
}

static void
read_text(const char *path, char *text)
{
    int fd = open(path, O_RDONLY);

    (void)!read(fd, text, sizeof(texts[0]) - 1);
    (void)close(fd);
}

static void
answer(const char *text)
{
    (void)!write(1, text, strlen(text));
    (void)!write(1, "\n", 1);
}

int
main(int argc, char **argv)
{
    char *const environment[] = {NULL};
    struct gencore_plan plan = {
        .argv = argv + 6,
        .envp = environment,
        .directory = argv[2],
        .run_name = argv[3],
        .stderr_fd = -1,
        .max_captures = -1,
    };
    struct gencore_request request = {.core_filter = strtoull(argv[1], NULL, 0), .stop_threads = 1};
    struct gencore_result result;
    char command;
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

    if (argc < 7 || write(fd, argv[1], strlen(argv[1])) < 0 || pipe(pipe_ends) < 0) {
        return 1;
    }
    (void)close(fd);
    read_text(argv[4], texts[0]);
    read_text(argv[5], texts[1]);
    make_memory("/proc/self/exe");
    (void)sem_init(&never, 0, 0);
    answer("started");
    /* Not read(3): a call that can be cancelled notes that in the thread's memory. */
    while (syscall(SYS_read, 0, &command, 1) == 1) {
        if (command == 'p') {
            if (gencore_prepare(PAGE, 0) < 0) {
                return 2;
            }
            answer("prepared");
        }
        else if (command == 't') {
            start_threads();
            answer("running");
        }
        else if (command == 'c' || command == 'k') {
            request.text = texts[command == 'k'];
            request.text_size = strlen(request.text);
            answer(gencore_capture(&plan, &request, &result) == 0 ? result.name : "failed");
        }
        else {
            break;
        }
    }
    _exit(0);
}
