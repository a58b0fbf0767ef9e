/*
 * driver.c - the engine without Python, so that sanitizers and other architectures can judge it.
 *
 *   driver MODE COLLECTOR DIRECTORY [COUNT]
 *
 * Linked with every file of csrc but module.c. Prints what the tests compare; ends with status 0
 * only if the mode came to its end. An alarm ends it if something hangs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"

#define RUN_NAME ".run"
#define LIMIT_SECONDS 100

char marker[] = "here is the marker";
struct gencore_plan plan;
char request_text[REQUEST_SIZE];
int finished;
sem_t arrived, gate, handled;
unsigned long turns;

_Noreturn void
die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

void
expect(int condition, const char *what)
{
    if (!condition) {
        die("not so: %s (errno %d)", what, errno);
    }
}

int
thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

int
is_finished(void)
{
    return __atomic_load_n(&finished, __ATOMIC_ACQUIRE);
}

pthread_t
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

void
finish(void)
{
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
}

/* ---- captures --------------------------------------------------------------------- */

/* Signal safe. The stage of the failure, 0 for success. */
int
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

void
capture_or_die(struct gencore_result *result)
{
    if (capture(result) != GENCORE_STAGE_NONE) {
        die("capture failed at stage %d with errno %d", result->stage, result->error);
    }
}

/* Wait until the collector has released its state file, then copy what it wrote to standard output.
 */
void
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

void *
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

void *
count_turns(void *argument)
{
    (void)argument;
    while (!is_finished()) {
        (void)__atomic_add_fetch(&turns, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* ---- main ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(int count);
} modes[] = {
    {"threads", run_threads}, {"steps", run_steps},         {"pair", run_pair},
    {"nested", run_nested},   {"masked", run_masked},       {"churn", run_churn},
    {"owned", run_owned},     {"alarm", run_alarm},         {"contracts", run_contracts},
    {"fields", run_fields},   {"notes", run_notes},         {"calls", run_calls},
    {"stop", run_stop},       {"registers", run_registers},
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
    plan = (struct gencore_plan){.argv = collector,
                                 .envp = environment,
                                 .directory = argv[3],
                                 .run_name = RUN_NAME,
                                 .stderr_fd = -1,
                                 .max_captures = -1};
    snprintf(request_text, sizeof(request_text), "%lx %lx", (unsigned long)(uintptr_t)marker,
             strlen(marker));
    sem_init(&arrived, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&handled, 0, 0);
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
