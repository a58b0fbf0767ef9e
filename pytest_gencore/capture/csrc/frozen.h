/* frozen.h - the little that raw code needs instead of libc: time, text, files. Signal safe. */
#ifndef GENCORE_FROZEN_H
#define GENCORE_FROZEN_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "raw.h"

#define NANOSECONDS 1000000000LL

static inline int64_t
frozen_now(int clock)
{
    struct timespec now = {0, 0};

    (void)raw2(SYS_clock_gettime, clock, &now);
    return (int64_t)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

/* A text being written; cut when full, always ended by a zero. */
struct frozen_text {
    char *at;
    char *end; /* last byte of the buffer */
};

static inline struct frozen_text
frozen_text_in(char *buffer, size_t size)
{
    struct frozen_text text = {buffer, buffer + size - 1};

    buffer[0] = '\0';
    return text;
}

static inline void
frozen_put(struct frozen_text *text, const char *source)
{
    while (*source && text->at < text->end) {
        *text->at++ = *source++;
    }
    *text->at = '\0';
}

static inline void
frozen_put_number(struct frozen_text *text, uint64_t number, int width)
{
    char digits[24];
    int count = 0;

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number || count < width);
    while (count > 0 && text->at < text->end) {
        *text->at++ = digits[--count];
    }
    *text->at = '\0';
}

/* Read a small file whole into a zero-ended buffer; number of bytes or -errno. */
static inline long
frozen_read_file(const char *path, char *buffer, size_t size)
{
    size_t used = 0;
    long fd = raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0) {
        return fd;
    }
    while (used < size - 1) {
        long count = raw3(SYS_read, fd, buffer + used, size - 1 - used);

        if (count == -EINTR) {
            continue;
        }
        if (count <= 0) {
            break;
        }
        used += (size_t)count;
    }
    buffer[used] = '\0';
    (void)raw1(SYS_close, fd);
    return (long)used;
}

/* Write all bytes; 0 or -errno. */
static inline long
frozen_write_all(int fd, const void *data, uint64_t size)
{
    const char *at = data;

    while (size) {
        long count = raw3(SYS_write, fd, at, size);

        if (count == -EINTR) {
            continue;
        }
        if (count <= 0) {
            return count ? count : -EIO;
        }
        at += count;
        size -= (uint64_t)count;
    }
    return 0;
}

/* Read exactly that many bytes; 0, -EPIPE at the end of the file, or -errno. */
static inline long
frozen_read_exactly(int fd, void *data, uint64_t size)
{
    char *at = data;

    while (size) {
        long count = raw3(SYS_read, fd, at, size);

        if (count == -EINTR) {
            continue;
        }
        if (count <= 0) {
            return count ? count : -EPIPE;
        }
        at += count;
        size -= (uint64_t)count;
    }
    return 0;
}

/* Position right behind `label` in `text`, or NULL. */
static inline const char *
frozen_find(const char *text, const char *label)
{
    for (; *text; text++) {
        const char *a = text, *b = label;

        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (!*b) {
            return a;
        }
    }
    return NULL;
}

/* Hexadecimal number at *text, with or without 0x; moves *text behind it and the blanks after it. */
static inline uint64_t
frozen_hex(const char **text)
{
    const char *at = *text;
    uint64_t value = 0;

    if (at[0] == '0' && at[1] == 'x') {
        at += 2;
    }
    for (;; at++) {
        if (*at >= '0' && *at <= '9') {
            value = value * 16 + (uint64_t)(*at - '0');
        }
        else if (*at >= 'a' && *at <= 'f') {
            value = value * 16 + (uint64_t)(*at - 'a' + 10);
        }
        else {
            break;
        }
    }
    while (*at == ' ' || *at == '\t') {
        at++;
    }
    *text = at;
    return value;
}

/* One entry of getdents64(2). */
struct frozen_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* The number an entry's name is made of, or -1: "." and "..". */
static inline int32_t
frozen_entry_number(const struct frozen_entry *entry)
{
    int32_t number = 0;

    for (const char *at = entry->name; *at; at++) {
        if (*at < '0' || *at > '9') {
            return -1;
        }
        number = number * 10 + (*at - '0');
    }
    return number;
}

#endif
