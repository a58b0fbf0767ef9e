/* driver_moments.c - captures beside something that happens at the same moment. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

/* ---- owned: a capture that was refused does not let another one's threads go ------ */

static char gate_path[PATH_MAX];
static int refused_stage, was_disturbed;

static unsigned long
count_for_a_moment(void)
{
    unsigned long before = __atomic_load_n(&turns, __ATOMIC_RELAXED);

    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 100 * 1000 * 1000}, NULL);
    return __atomic_load_n(&turns, __ATOMIC_RELAXED) - before;
}

/* The thread that is not stopped, for it blocks every signal. Opening the gate waits for the
 * collector. */
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

void
run_owned(int count)
{
    struct gencore_result result;
    struct gencore_request request = {
        .text_size = 0, .stop_threads = 1, .hold_ns = 30 * 1000000000LL};
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
    finish();
    pthread_join(counter, NULL);
    printf("refused %d disturbed %d\n", refused_stage, was_disturbed);
    show_report(&result);
}

/* ---- alarm: the alarm behind a deadline ends the wait of the thread that it is for - */

#define ALARM_PATIENCE_MS 30000

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
    return safe_read_field(path, "SigBlk:\t", value, sizeof(value)) > 0
           && (safe_hex(&at) >> (signal - 1) & 1);
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

/*
 * The alarm comes to the thread of the deadline, as a rule. Another one that is released at that
 * moment may take it first (sigreturn(2) looks for signals of the process, too). The nudges then
 * end the wait.
 */
void
run_alarm(int count)
{
    struct sigaction action = {.sa_handler = note_alarm, .sa_flags = SA_RESTART};
    struct gencore_standby standby = {
        .plan = &plan,
        .request = {.text = request_text, .text_size = strlen(request_text), .stop_threads = 1}};
    pthread_t counter = start_thread_of(count_turns, NULL), sender;
    struct gencore_result result;
    int elsewhere = 0, slept = 0;

    alarm(0);
    main_tid = thread_id();
    expect(sigaction(SIGALRM, &action, NULL) == 0, "the handler is set");
    sender = start_thread_of(send_alarms, NULL);
    sem_wait(&arrived);
    for (int round = 0; round < count; round++) {
        alarm_tid = 0;
        sem_post(&gate);
        expect(gencore_set_deadline(GENCORE_DEADLINE_PYTEST_TIMEOUT, 1000000, &standby, 0) == 0,
               "a deadline");
        while (!gencore_deadline_fired(GENCORE_DEADLINE_PYTEST_TIMEOUT, &result)
               || !__atomic_load_n(&alarm_tid, __ATOMIC_ACQUIRE)) {
            slept += poll(NULL, 0, ALARM_PATIENCE_MS) == 0;
        }
        while (sem_wait(&handled) < 0) {
        }
        expect(result.stage == GENCORE_STAGE_NONE, "the capture is taken");
        elsewhere += alarm_tid != main_tid;
    }
    finish();
    sem_post(&gate);
    pthread_join(sender, NULL);
    pthread_join(counter, NULL);
    printf("elsewhere %d\nslept %d\n", elsewhere, slept);
}

/* ---- notes: captures while another thread adds notes ------------------------------ */

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

void
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
    finish();
    sem_post(&gate);
    pthread_join(writer, NULL);
}
