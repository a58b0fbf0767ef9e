/* journal.c - notes that the snapshot carries to the collector: memory, so no file is written for them. */
#include <sys/mman.h>

#include "frozen.h"
#include "gencore.h"

#define FIRST_CAPACITY (1024 * 1024)

static struct {
    char *memory;
    uint64_t capacity;
    uint64_t used;
} journal;

int
gencore_note(const void *data, uint64_t size)
{
    const char *from = data;
    uint64_t capacity = journal.capacity ? journal.capacity : FIRST_CAPACITY;

    while (capacity - journal.used < size) {
        capacity *= 2;
    }
    if (capacity != journal.capacity) {
        long memory = journal.memory
                          ? raw5(SYS_mremap, journal.memory, journal.capacity, capacity, MREMAP_MAYMOVE, 0)
                          : raw6(SYS_mmap, 0, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                 -1, 0);

        if (memory < 0 && memory > -4096) {
            return (int)memory;
        }
        journal.memory = (char *)memory;
        journal.capacity = capacity;
    }
    for (uint64_t i = 0; i < size; i++) {
        journal.memory[journal.used + i] = from[i];
    }
    __atomic_store_n(&journal.used, journal.used + size, __ATOMIC_RELEASE);
    return 0;
}

void
gencore_find_journal(uint64_t *address, uint64_t *size)
{
    *size = __atomic_load_n(&journal.used, __ATOMIC_ACQUIRE);
    *address = (uint64_t)(uintptr_t)journal.memory;
}
