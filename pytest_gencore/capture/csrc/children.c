/*
 * children.c - the children of the captured process, as /proc shows them right now: they may end,
 * and get another parent, with it.
 */
#include "items.h"

#define CHILD_LIMIT 32
#define AT_LEAST 4 /* on a busy machine, too */

/* "NUMBER=TEXT" and a zero. */
static void
add_named_link(int32_t pid, int64_t number)
{
    size_t before = gencore_item.used, limit = 16;
    char *at = gencore_item_room(&limit);
    struct safe_text text;

    if (limit < 16) {
        return;
    }
    text = safe_text_in(at, limit);
    safe_put_number(&text, (uint64_t)number, 1);
    safe_put(&text, "=");
    gencore_item.used += (size_t)(text.at - at);
    if (gencore_add_link(pid, number) == 0 || gencore_item.used >= sizeof(gencore_item.bytes)) {
        gencore_item.used = before;
        return;
    }
    gencore_item.bytes[gencore_item.used++] = '\0';
}

/* The first argument of the system call of a text of /proc/PID/syscall, -1: in none. */
static int64_t
first_argument(const char *text)
{
    if (*text < '0' || *text > '9') {
        return -1;
    }
    while (*text && *text != ' ') {
        text++;
    }
    while (*text == ' ') {
        text++;
    }
    return (int64_t)(safe_hex(&text) & INT64_MAX);
}

static long
describe_child(struct gencore_items *items, int32_t pid)
{
    struct gencore_child *child = (struct gencore_child *)gencore_item.bytes;
    size_t call, links;
    int64_t fd;

    *child = (struct gencore_child){.pid = pid};
    gencore_item.used = sizeof(*child);
    child->stat_size = gencore_add_file(pid, "stat", -1, 1024);
    child->command_size = gencore_add_file(pid, "cmdline", -1, 1024);
    child->channel_size = gencore_add_file(pid, "wchan", -1, 128);
    call = gencore_item.used;
    child->call_size = gencore_add_file(pid, "syscall", -1, 256);
    gencore_item.bytes[gencore_item.used] = '\0'; /* there is none if the file cannot be opened */
    fd = first_argument(gencore_item.bytes + call);
    links = gencore_item.used;
    for (int64_t number = 0; number < GENCORE_STANDARD_FDS; number++) {
        add_named_link(pid, number);
    }
    if (fd >= GENCORE_STANDARD_FDS && fd <= INT32_MAX) {
        add_named_link(pid, fd);
    }
    child->links_size = (uint32_t)(gencore_item.used - links);
    return gencore_put_item(items);
}

/* Those of one thread: the kernel lists them where it has CONFIG_PROC_CHILDREN. */
static int32_t
describe_children_of(struct gencore_items *items, int32_t pid, int32_t tid, int32_t *described)
{
    static char pids[1024];
    char path[64];
    struct safe_text text = gencore_put_path(path, sizeof(path), pid, "task", tid);
    int32_t count = 0, number = 0, helper = (int32_t)raw0(SYS_getppid);
    long size;

    safe_put(&text, "/children");
    size = safe_read_file(path, pids, sizeof(pids));
    if (size < 0) {
        return GENCORE_NOT_READ;
    }
    for (long at = 0; at < size; at++) {
        if (pids[at] >= '0' && pids[at] <= '9') {
            number = number * 10 + (pids[at] - '0');
            continue;
        }
        if (number > 0 && number != helper) {
            count++;
            if (*described < CHILD_LIMIT && !gencore_items_over(items, *described, AT_LEAST)) {
                *described += describe_child(items, number) == 0;
            }
        }
        number = 0;
    }
    return count;
}

int32_t
gencore_describe_children(struct gencore_items *items, int32_t pid)
{
    static _Alignas(8) char entries[1024];
    char path[64];
    int32_t count = 0, described = 0;
    long directory, size;

    (void)gencore_put_path(path, sizeof(path), pid, "task", -1);
    directory = raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) {
        return GENCORE_NOT_READ;
    }
    while ((size = raw3(SYS_getdents64, directory, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < size && !gencore_items_over(items, described, AT_LEAST);) {
            const struct safe_entry *entry = (const struct safe_entry *)(entries + at);
            int32_t tid = safe_entry_number(entry), found;

            at += entry->size;
            if (tid <= 0) {
                continue;
            }
            found = describe_children_of(items, pid, tid, &described);
            if (found < 0 && raw3(SYS_tgkill, pid, tid, 0) == 0) {
                (void)raw1(SYS_close, directory);
                return GENCORE_NOT_READ; /* the thread is there, but not its list */
            }
            count += found > 0 ? found : 0;
        }
    }
    (void)raw1(SYS_close, directory);
    return count;
}
