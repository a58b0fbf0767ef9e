/*
 * items.h - what is written into the hand-over about the captured process before its snapshot:
 * records with the texts of some files of /proc behind them, one item at a time.
 */
#ifndef GENCORE_ITEMS_H
#define GENCORE_ITEMS_H

#include "gencore.h"
#include "signal_safe.h"

#define GENCORE_LINK_SIZE 1024
#define GENCORE_INFO_SIZE 16384 /* of an epoll descriptor: some 200 that it watches */
#define GENCORE_STANDARD_FDS 3

/* One thing being described; static, as stacks are small and captures come one by one. */
struct gencore_item {
    _Alignas(8) char bytes[GENCORE_INFO_SIZE + 2 * GENCORE_LINK_SIZE];
    size_t used;
};
extern struct gencore_item gencore_item;

/* Where items go, and the limits of time and size for them. */
struct gencore_items {
    int fd;
    int left_out;     /* a descriptor that is not described */
    int64_t deadline; /* CLOCK_MONOTONIC */
    uint64_t size;
};

/* Whether the limits are reached; not by time before `at_least` of `described` are there. */
int gencore_items_over(const struct gencore_items *items, int32_t described, int32_t at_least);

/* Write the item; 0 or -errno. */
long gencore_put_item(struct gencore_items *items);

/* Room for the next part of the item; `size` is what is left of it, or less. */
char *gencore_item_room(size_t *size);

/* "/proc/PID/NAME" or "/proc/PID/NAME/NUMBER"; pid 0: self, number -1: none. */
struct safe_text gencore_put_path(char *path, size_t size, int32_t pid, const char *name,
                                  int64_t number);

/* Add a file of /proc to the item, its beginning; how many bytes that were. */
uint32_t gencore_add_file(int32_t pid, const char *name, int64_t number, size_t limit);

/* Likewise the text of the link of a descriptor. */
uint32_t gencore_add_link(int32_t pid, int64_t number);

/* Write the children of process `pid`; how many it has, or GENCORE_NOT_READ. In children.c. */
int32_t gencore_describe_children(struct gencore_items *items, int32_t pid);

#endif
