/*
 * fake_collector.c - the least that a collector can be, without Python: checks the hand-over, reads
 * memory of the snapshot, and writes what it found into the archive file as text. Ends the snapshot
 * by ending.
 *
 * The request's text is "ADDRESS SIZE" in hexadecimal, memory of the captured process to show; and,
 * if the collector is to wait, the path of a FIFO: until whoever opens it closes it again.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol.h"

static void
read_exactly(int fd, void *data, size_t size)
{
    char *at = data;

    while (size) {
        ssize_t count = read(fd, at, size);

        if (count <= 0) {
            dprintf(GENCORE_FD_ARCHIVE, "error: descriptor %d ended\n", fd);
            exit(1);
        }
        at += count;
        size -= (size_t)count;
    }
}

static void
show_thread(const struct gencore_thread *thread)
{
#if defined(__x86_64__)
    unsigned long pc = thread->regs[16], sp = thread->regs[19];
#else
    unsigned long pc = thread->regs[32], sp = thread->regs[31];
#endif
    dprintf(GENCORE_FD_ARCHIVE, "thread %d %u %#lx %#lx %d %s\n", (int)thread->tid, thread->state,
            pc, sp, thread->fp_address != 0 && thread->tls != 0, thread->name);
}

static void
show_memory(const char *text)
{
    char *end;
    struct gencore_command command = {.kind = GENCORE_COMMAND_READ};
    char memory[4096];

    command.address = strtoull(text, &end, 16);
    command.size = strtoull(end, NULL, 16);
    if (command.size > sizeof(memory)
        || write(GENCORE_FD_COMMANDS, &command, sizeof(command)) != sizeof(command)) {
        dprintf(GENCORE_FD_ARCHIVE, "error: cannot ask\n");
        exit(1);
    }
    read_exactly(GENCORE_FD_REPLIES, memory, (size_t)command.size);
    dprintf(GENCORE_FD_ARCHIVE, "memory %.*s\n", (int)command.size, memory);
}

/* Notes are numbers that count from 1; say how many are not what they should be. */
static void
check_notes(const struct gencore_record *record)
{
    uint64_t numbers[512], expected = 1, wrong = 0;

    for (uint64_t at = 0; at < record->journal_size; at += sizeof(numbers)) {
        struct gencore_command command = {.kind = GENCORE_COMMAND_READ,
                                          .address = record->journal_address + at,
                                          .size = sizeof(numbers)};

        if (write(GENCORE_FD_COMMANDS, &command, sizeof(command)) != sizeof(command)) {
            dprintf(GENCORE_FD_ARCHIVE, "error: cannot ask\n");
            exit(1);
        }
        read_exactly(GENCORE_FD_REPLIES, numbers, sizeof(numbers));
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            wrong += numbers[i] != expected++;
        }
    }
    dprintf(GENCORE_FD_ARCHIVE, "notes %llu wrong %llu\n", (unsigned long long)(expected - 1),
            (unsigned long long)wrong);
}

static void
wait_at_gate(const char *text)
{
    const char *path = strchr(text, '/');
    char byte;

    if (path) {
        int fd = open(path, O_RDONLY);

        while (read(fd, &byte, 1) > 0) {
        }
        close(fd);
    }
}

int
main(void)
{
    struct gencore_record record;
    struct gencore_snapshot_status status;
    char text[PATH_MAX + 64] = "";

    read_exactly(GENCORE_FD_HANDOVER, &record, sizeof(record));
    if (memcmp(record.magic, "GENCORE1", 8) != 0 || record.record_size != sizeof(record)
        || record.thread_size != sizeof(struct gencore_thread)
        || record.text_size >= sizeof(text)) {
        dprintf(GENCORE_FD_ARCHIVE, "error: bad record\n");
        return 1;
    }
    dprintf(GENCORE_FD_ARCHIVE, "name %s\n", record.name);
    lseek(GENCORE_FD_HANDOVER, (off_t)(record.children_size + record.descriptors_size), SEEK_CUR);
    for (unsigned int i = 0; i < record.thread_count; i++) {
        struct gencore_thread thread;

        read_exactly(GENCORE_FD_HANDOVER, &thread, sizeof(thread));
        show_thread(&thread);
    }
    read_exactly(GENCORE_FD_HANDOVER, text, (size_t)record.text_size);
    read_exactly(GENCORE_FD_REPLIES, &status, sizeof(status));
    if (record.text_size) {
        show_memory(text);
        check_notes(&record);
        wait_at_gate(text);
    }
    dprintf(GENCORE_FD_ARCHIVE, "end %d\n", status.pid == record.snapshot_pid);
    return 0;
}
