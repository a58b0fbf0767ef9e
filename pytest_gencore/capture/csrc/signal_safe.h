/* signal_safe.h - the little that signal-safe code needs instead of libc: time, text, files. */
#ifndef GENCORE_SIGNAL_SAFE_H
#define GENCORE_SIGNAL_SAFE_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "raw.h"

#define NANOSECONDS 1000000000LL

static inline int64_t
safe_now(int clock)
{
    struct timespec now = {0, 0};

    (void)raw2(SYS_clock_gettime, clock, &now);
    return (int64_t)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

/* A text being written; cut when full, always ended by a zero. */
struct safe_text {
    char *at;
    char *end; /* last byte of the buffer */
};

static inline struct safe_text
safe_text_in(char *buffer, size_t size)
{
    struct safe_text text = {buffer, buffer + size - 1};

    buffer[0] = '\0';
    return text;
}

static inline void
safe_put(struct safe_text *text, const char *source)
{
    while (*source && text->at < text->end) {
        *text->at++ = *source++;
    }
    *text->at = '\0';
}

/* Bytes of a text; 0 for NULL. */
static inline uint64_t
safe_length(const char *text)
{
    uint64_t length = 0;

    while (text && text[length]) {
        length++;
    }
    return length;
}

static inline void
safe_put_number(struct safe_text *text, uint64_t number, int width)
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
safe_read_file(const char *path, char *buffer, size_t size)
{
    size_t used = 0;
    long count = 0, fd = raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0) {
        return fd;
    }
    while (used < size - 1) {
        count = raw3(SYS_read, fd, buffer + used, size - 1 - used);
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
    return count < 0 ? count : (long)used;
}

/*
 * Read the value of a field of a file like /proc/PID/status: what follows `label` in the first line
 * that begins with it, up to the end of the line, cut to fit. The length of the value, -ENOENT if
 * there is no such line, or -errno. A file of any size, for a line before the wanted one may be
 * long.
 */
static inline long
safe_read_field(const char *path, const char *label, char *value, size_t size)
{
    char piece[512];
    size_t matched = 0, used = 0;
    /* The line may have the label, has it, has it and has ended. */
    int is_candidate = 1, is_found = 0, is_over = 0;
    long count = 0, fd = raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0) {
        return fd;
    }
    while (!is_over
           && ((count = raw3(SYS_read, fd, piece, sizeof(piece))) > 0 || count == -EINTR)) {
        for (long i = 0; i < count && !is_over; i++) {
            if (piece[i] == '\n') {
                is_over = is_found;
                is_candidate = 1;
                matched = 0;
            }
            else if (is_found) {
                if (used < size - 1) {
                    value[used++] = piece[i];
                }
            }
            else if (is_candidate) {
                is_candidate = piece[i] == label[matched++];
                is_found = is_candidate && !label[matched];
            }
        }
    }
    value[used] = '\0';
    (void)raw1(SYS_close, fd);
    if (count < 0) {
        return count;
    }
    return is_found ? (long)used : -ENOENT;
}

/* Write all bytes; 0 or -errno. */
static inline long
safe_write_all(int fd, const void *data, uint64_t size)
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
safe_read_exactly(int fd, void *data, uint64_t size)
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

/* Hexadecimal number at *text, with or without 0x; moves *text behind it and the blanks after it.
 */
static inline uint64_t
safe_hex(const char **text)
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
struct safe_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* The number an entry's name is made of, or -1: "." and "..". */
static inline int32_t
safe_entry_number(const struct safe_entry *entry)
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
