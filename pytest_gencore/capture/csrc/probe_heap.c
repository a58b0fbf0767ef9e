/*
 * probe_heap.c - memory for Python in a copy of the snapshot, and a look at memory that may not be
 * there.
 *
 * The captured thread may have been in the middle of malloc, with its lock held: there, every other
 * allocation would wait for ever. So the copy takes memory from a reservation of its own, and gives
 * nothing back. PyMem_SetAllocator is no part of the limited API, but exported since 3.4.
 *
 * Whoever held the GIL may also have been in the middle of adding an object to the garbage
 * collector's list of young objects, or of taking one out: the next object that Python makes or
 * drops would follow a null pointer. So that list is mended first.
 */
#include "glue.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "raw.h"

#define ALIGNMENT 16
#define LARGEST_HEAP (1ul << 30)
#define SMALLEST_HEAP (1ul << 24)
#define PIPE_PIECE 4096

/* PyMemAllocatorEx, Include/cpython/pymem.h. */
struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *old, size_t size);
    void (*free)(void *context, void *block);
};

enum {
    DOMAINS = 3
}; /* PYMEM_DOMAIN_RAW, _MEM, _OBJ */

static struct {
    void (*set_allocator)(int domain, struct allocator *allocator);
    char *start;
    char *at;
    char *end;
} heap;

static int peek_pipe[2] = {-1, -1}; /* of a copy; elsewhere it is closed again */

/* PyGC_Head, Include/internal/pycore_gc.h: in front of each object that the collector knows. */
struct gc_head {
    uintptr_t next;     /* the lowest bits are flags in both */
    uintptr_t previous; /* of an object in a collection: a count */
};
#define GC_FLAGS ((uintptr_t)3)
#define YOUNG_LIMIT 1000000

static struct gc_head *young; /* the list itself: its head, before the first and behind the last */

size_t
gencore_copy_memory(void *to, const void *from, size_t size)
{
    size_t done = 0;

    if (peek_pipe[0] < 0 && raw2(SYS_pipe2, peek_pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        return 0;
    }
    while (done < size) {
        size_t piece = size - done < PIPE_PIECE ? size - done : PIPE_PIECE;
        /* The kernel looks: EFAULT instead of a signal. */
        long count = raw3(SYS_write, peek_pipe[1], (const char *)from + done, piece);

        if (count <= 0 || raw3(SYS_read, peek_pipe[0], (char *)to + done, count) != count) {
            break;
        }
        done += (size_t)count;
    }
    if (!heap.start) { /* not in a copy: nobody may find descriptors that are not his */
        (void)raw1(SYS_close, peek_pipe[0]);
        (void)raw1(SYS_close, peek_pipe[1]);
        peek_pipe[0] = peek_pipe[1] = -1;
    }
    return done;
}

static void *
heap_malloc(void *context, size_t size)
{
    char *block;

    (void)context;
    if (size > (size_t)(heap.end - heap.at)) {
        return NULL;
    }
    size = (size + 2 * ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (size > (size_t)(heap.end - heap.at)) {
        return NULL;
    }
    block = heap.at;
    heap.at += size;
    *(size_t *)(void *)block = size - ALIGNMENT;
    return block + ALIGNMENT;
}

static void *
heap_calloc(void *context, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) {
        return NULL;
    }
    return heap_malloc(context, count * size); /* fresh pages are zeros */
}

static void *
heap_realloc(void *context, void *old, size_t size)
{
    char *block = heap_malloc(context, size);

    if (!block || !old) {
        return block;
    }
    if ((char *)old > heap.start && (char *)old < heap.end) {
        size_t known = *(size_t *)(void *)((char *)old - ALIGNMENT);

        memcpy(block, old, known < size ? known : size);
    }
    else { /* of before: how large it is nobody knows, but the kernel copies what is there */
        (void)gencore_copy_memory(block, old, size);
    }
    return block;
}

static void
heap_free(void *context, void *block)
{
    (void)context;
    (void)block;
}

void
gencore_find_allocator(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");

    memcpy(&heap.set_allocator, &symbol, sizeof(symbol));
}

void
gencore_use_own_heap(void)
{
    struct allocator own = {NULL, heap_malloc, heap_calloc, heap_realloc, heap_free};

    if (!heap.set_allocator) {
        return;
    }
    for (size_t size = LARGEST_HEAP; size >= SMALLEST_HEAP; size /= 2) {
        long address = raw6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (address < 0 && address > -4096) {
            continue; /* a limit */
        }
        heap.start = heap.at = (char *)address;
        heap.end = heap.start + size;
        for (int domain = 0; domain < DOMAINS; domain++) {
            heap.set_allocator(domain, &own);
        }
        return;
    }
}

static struct gc_head *
head_in(uintptr_t word)
{
    return (struct gc_head *)(word & ~GC_FLAGS);
}

static void
set_head(uintptr_t *word, const struct gc_head *head)
{
    if (head_in(*word) != head) { /* a page that is not written to is not copied */
        *word = (uintptr_t)head | (*word & GC_FLAGS);
    }
}

void
gencore_find_young_objects(void)
{
    PyObject *first = PyList_New(0), *second = PyList_New(0);

    young = NULL;
    if (first && second) {
        struct gc_head *before = (struct gc_head *)(void *)first - 1;
        struct gc_head *last = (struct gc_head *)(void *)second - 1;

        /* New objects are the last ones of the list. Not so if a collection came between. */
        if (head_in(before->next) == last && head_in(last->previous) == before && last->next
            && head_in(head_in(last->next)->previous) == last) {
            young = head_in(last->next);
        }
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
}

/* Each object tells the next one truly, or none if it was being added or taken out. */
void
gencore_mend_young_objects(void)
{
    struct gc_head *last = young, *head;

    if (!young) {
        return;
    }
    head = head_in(young->next);
    for (long count = 0; count < YOUNG_LIMIT; count++) {
        if (!head || head == young || !head->next) {
            break;
        }
        set_head(&head->previous, last);
        last = head;
        head = head_in(head->next);
    }
    set_head(&last->next, young);
    set_head(&young->previous, last);
}
