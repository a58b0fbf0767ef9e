/*
 * journal.c - notes that the snapshot carries to the collector: memory, so no file is written for
 * them.
 *
 * One mapping with its own head, so that one pointer says all: whoever stops the writer at any
 * instruction finds the notes whole. A larger mapping is published when everything is in it, and
 * the old one removed afterwards.
 */
#include <sys/mman.h>

#include "gencore.h"
#include "signal_safe.h"

#define FIRST_CAPACITY (1024 * 1024)

struct journal {
    uint64_t capacity; /* bytes of the mapping */
    uint64_t used;     /* bytes of notes */
    char notes[];
};

static struct journal *journal;

/* A journal for `size` bytes of notes and more, with what is in the old one. NULL and *error if
 * there is none. */
static struct journal *
make_journal(const struct journal *old, uint64_t size, int *error)
{
    uint64_t capacity = old ? old->capacity : FIRST_CAPACITY;
    struct journal *made;
    long address;

    while (capacity - sizeof(*made) < size) {
        capacity *= 2;
    }
    address = raw6(SYS_mmap, 0, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    if (address < 0 && address > -4096) {
        *error = (int)address;
        return NULL;
    }
    made = (struct journal *)address;
    made->capacity = capacity;
    made->used = old ? old->used : 0;
    for (uint64_t i = 0; i < made->used; i++) {
        made->notes[i] = old->notes[i];
    }
    return made;
}

int
gencore_note(const void *data, uint64_t size)
{
    struct journal *current = journal;
    const char *from = data;

    if (!current || current->capacity - sizeof(*current) - current->used < size) {
        int error = 0;
        struct journal *larger = make_journal(current, (current ? current->used : 0) + size,
                                              &error);

        if (!larger) {
            return error;
        }
        __atomic_store_n(&journal, larger, __ATOMIC_RELEASE);
        if (current) {
            (void)raw2(SYS_munmap, current, current->capacity);
        }
        current = larger;
    }
    for (uint64_t i = 0; i < size; i++) {
        current->notes[current->used + i] = from[i];
    }
    __atomic_store_n(&current->used, current->used + size, __ATOMIC_RELEASE);
    return 0;
}

void
gencore_find_journal(uint64_t *address, uint64_t *size)
{
    const struct journal *current = __atomic_load_n(&journal, __ATOMIC_ACQUIRE);

    *address = current ? (uint64_t)(uintptr_t)current->notes : 0;
    *size = current ? __atomic_load_n(&current->used, __ATOMIC_ACQUIRE) : 0;
}
