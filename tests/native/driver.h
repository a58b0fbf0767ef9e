/* driver.h - what the modes of the driver share. */
#ifndef GENCORE_DRIVER_H
#define GENCORE_DRIVER_H

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

#include "deadlines.h"
#include "gencore.h"
#include "signal_safe.h"

extern struct gencore_plan plan;
#define REQUEST_SIZE (PATH_MAX + 64)
extern char request_text[REQUEST_SIZE];
extern char marker[];
extern int finished;
extern sem_t arrived, gate, handled;

/* Print a message and end with status 1. */
_Noreturn void die(const char *format, ...);
void expect(int condition, const char *what);

int thread_id(void);
int is_finished(void);
void finish(void);
pthread_t start_thread_of(void *(*function)(void *), void *argument);

/* Signal safe. The stage of the failure, 0 for success. */
int capture(struct gencore_result *result);
void capture_or_die(struct gencore_result *result);

/* Wait until the collector has released its state file, then copy what it wrote to standard output.
 */
void show_report(const struct gencore_result *result);

/* Threads: print the id and wait in sem_wait(&gate); count turns until all is finished. */
void *wait_at_gate(void *unused);
void *count_turns(void *unused);
extern unsigned long turns;

/* The modes; `count` is the last argument of the driver. */
void run_threads(int count);
void run_steps(int count);
void run_pair(int count);
void run_nested(int count);
void run_masked(int count);
void run_churn(int count);
void run_owned(int count);
void run_alarm(int count);
void run_notes(int count);
void run_contracts(int count);
void run_fields(int count);
void run_calls(int count);
void run_registers(int count);
void run_stop(int count);

#endif
