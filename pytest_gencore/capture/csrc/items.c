/* items.c - see items.h. Nothing here reads from a descriptor of the captured process. */
#include "items.h"
#include "signal_safe.h"

#define SIZE_LIMIT (1024 * 1024)

struct gencore_item gencore_item;

int
gencore_items_over(const struct gencore_items *items, int32_t described, int32_t at_least)
{
    return items->size >= SIZE_LIMIT - sizeof(gencore_item.bytes)
           || (described >= at_least && safe_now(CLOCK_MONOTONIC) >= items->deadline);
}

long
gencore_put_item(struct gencore_items *items)
{
    long error = safe_write_all(items->fd, gencore_item.bytes, gencore_item.used);

    if (error == 0) {
        items->size += gencore_item.used;
    }
    else { /* some of it, perhaps */
        (void)raw3(SYS_lseek, items->fd, sizeof(struct gencore_record) + items->size, SEEK_SET);
    }
    return error;
}

char *
gencore_item_room(size_t *size)
{
    size_t left = sizeof(gencore_item.bytes) - gencore_item.used;

    *size = left < *size ? left : *size;
    return gencore_item.bytes + gencore_item.used;
}

struct safe_text
gencore_put_path(char *path, size_t size, int32_t pid, const char *name, int64_t number)
{
    struct safe_text text = safe_text_in(path, size);

    safe_put(&text, "/proc/");
    if (pid) {
        safe_put_number(&text, (uint64_t)pid, 1);
    }
    else {
        safe_put(&text, "self");
    }
    safe_put(&text, "/");
    safe_put(&text, name);
    if (number >= 0) {
        safe_put(&text, "/");
        safe_put_number(&text, (uint64_t)number, 1);
    }
    return text;
}

uint32_t
gencore_add_file(int32_t pid, const char *name, int64_t number, size_t limit)
{
    char path[64];
    char *at = gencore_item_room(&limit);
    long count;

    gencore_put_path(path, sizeof(path), pid, name, number);
    count = limit ? safe_read_file(path, at, limit) : 0;
    count = count > 0 ? count : 0;
    gencore_item.used += (size_t)count;
    return (uint32_t)count;
}

uint32_t
gencore_add_link(int32_t pid, int64_t number)
{
    char path[64];
    size_t limit = GENCORE_LINK_SIZE;
    char *at = gencore_item_room(&limit);
    long count;

    gencore_put_path(path, sizeof(path), pid, "fd", number);
    count = limit ? raw4(SYS_readlinkat, AT_FDCWD, path, at, limit) : 0;
    count = count > 0 ? count : 0;
    gencore_item.used += (size_t)count;
    return (uint32_t)count;
}
