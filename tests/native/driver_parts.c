/* driver_parts.c - parts of the engine by themselves; some also under an emulator. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"
#include "runfiles.h"

/* ---- contracts: what functions return when something is wrong --------------------- */

void
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

/* ---- fields: lines of a file that is read in pieces ------------------------------- */

static void
show_field(const char *path, const char *label)
{
    char value[16];
    long size = safe_read_field(path, label, value, sizeof(value));

    printf("field %ld %s\n", size, size >= 0 ? value : "");
}

void
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

/* ---- registers: the architecture's part by itself; also under an emulator --------- */

#if defined(__x86_64__)
enum {
    PC_INDEX = 16,
    SP_INDEX = 19
};
#else
enum {
    PC_INDEX = 32,
    SP_INDEX = 31
};
#endif

static struct gencore_thread from_handler;
static double seen_in_handler;

static double
floating_point_of(const struct gencore_thread *thread)
{
#if defined(__x86_64__)
    const char *at = (const char *)(uintptr_t)thread->fp_address + 160
                     + 16 * 15; /* xmm15 in FXSAVE */
#else
    const char *at = (const char *)(uintptr_t)thread->fp_address + 16
                     + 16 * 15; /* v15, fpsimd_context */
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
    return address >= (uint64_t)(uintptr_t)function
           && address < (uint64_t)(uintptr_t)function + 16384;
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
    expect(is_near(from_handler.regs[PC_INDEX], (const void *)raise_with_value),
           "the pc is where it was");
    expect(from_handler.regs[SP_INDEX] < (uint64_t)(uintptr_t)&here + 65536
               && from_handler.regs[SP_INDEX] + 65536 > (uint64_t)(uintptr_t)&here,
           "the sp is in our stack");
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

/* What signing changes of an address: many times, with other values to sign it with. */
static uint64_t
bits_that_signing_sets(void)
{
    uint64_t set = 0;
#if defined(__aarch64__)
    for (uint64_t i = 0; i < 256; i++) {
        register uint64_t modifier __asm__("x16") = i;
        register uint64_t address __asm__("x17") = 0;

        __asm__("hint #8" : "+r"(address) : "r"(modifier)); /* PACIA1716 */
        set |= address;
    }
#endif
    return set;
}

static void
check_signed_bits(void)
{
    expect(gencore_signed_bits() == bits_that_signing_sets(), "the bits of a signature are known");
    printf("signed %#llx\n", (unsigned long long)gencore_signed_bits());
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

void
run_registers(int count)
{
    (void)count;
    check_handler_registers();
    check_own_registers();
    check_signed_bits();
    check_clone();
}

/* ---- stop: stopping threads from within the process, without helpers; also under an emulator  */

#define SLOTS 64

void
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
