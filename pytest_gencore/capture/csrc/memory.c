/*
 * memory.c - what a compiler may call for an assignment or a loop, so that signal-safe code needs
 * no libc.
 *
 * The names are those that GCC and Clang use; hidden, so nobody else's calls come here. The empty
 * assembly in the loops keeps a compiler from making a call of the same function out of each.
 */
#include <stddef.h>
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))
#define NO_IDIOM() __asm__ volatile("" : : : "memory")

HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t size);
HIDDEN void *memmove(void *to, const void *from, size_t size);
HIDDEN void *memset(void *to, int value, size_t size);
HIDDEN int memcmp(const void *left, const void *right, size_t size);
HIDDEN size_t strlen(const char *text);

void *
memcpy(void *restrict to, const void *restrict from, size_t size)
{
#if defined(__x86_64__)
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
#else
    unsigned char *at = to;
    const unsigned char *source = from;

    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t)) {
        uint64_t word;

        __asm__ volatile("ldr %0, [%1], #8\n\tstr %0, [%2], #8"
                         : "=&r"(word), "+r"(source), "+r"(at)
                         :
                         : "memory");
    }
    while (size--) {
        *at++ = *source++;
        NO_IDIOM();
    }
#endif
    return to;
}

void *
memmove(void *to, const void *from, size_t size)
{
    unsigned char *at = to;
    const unsigned char *source = from;

    if ((uintptr_t)to - (uintptr_t)from >= size) {
        return memcpy(to, from, size);
    }
    while (size--) {
        at[size] = source[size];
        NO_IDIOM();
    }
    return to;
}

void *
memset(void *to, int value, size_t size)
{
#if defined(__x86_64__)
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
#else
    unsigned char *at = to;
    uint64_t word = 0x0101010101010101u * (unsigned char)value;

    for (; size >= sizeof(word); size -= sizeof(word)) {
        __asm__ volatile("str %1, [%0], #8" : "+r"(at) : "r"(word) : "memory");
    }
    while (size--) {
        *at++ = (unsigned char)value;
        NO_IDIOM();
    }
#endif
    return to;
}

int
memcmp(const void *left, const void *right, size_t size)
{
    const unsigned char *a = left, *b = right;

    for (; size; a++, b++, size--) {
        if (*a != *b) {
            return *a - *b;
        }
        NO_IDIOM();
    }
    return 0;
}

size_t
strlen(const char *text)
{
    const char *at = text;

    while (*at) {
        at++;
        NO_IDIOM();
    }
    return (size_t)(at - text);
}
