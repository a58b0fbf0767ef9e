/*
 * descriptors.c - what the captured process has open right now, and its children.
 *
 * Runs in the collector-to-be, which has a copy of the descriptors: it needs no right to look at
 * them, and it is early enough where the process ends after its capture. Nothing here reads from a
 * descriptor or changes its state (SO_ERROR, for one, would be gone). Bounded in numbers, bytes and
 * time: what is past the limits is counted only.
 */
#include <linux/memfd.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "items.h"

#define DESCRIPTOR_LIMIT 1024
#define COUNT_LIMIT 8192 /* to list them takes time, too */
#define CHILDREN_NS (10 * 1000 * 1000LL)
#define ALL_NS (20 * 1000 * 1000LL)

static int32_t
ask_number(int fd, unsigned long request)
{
    int number = 0;

    return raw3(SYS_ioctl, fd, request, &number) < 0 ? GENCORE_NOT_READ : number;
}

static int32_t
ask_option(int fd, int option)
{
    int value = 0, size = sizeof(value);

    return raw5(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &size) < 0 ? GENCORE_NOT_READ
                                                                           : value;
}

static uint32_t
ask_address(int fd, long call, uint8_t *address, int size)
{
    int length = size;

    if (raw3(call, fd, address, &length) < 0 || length < 0) {
        return 0;
    }
    return (uint32_t)(length < size ? length : size);
}

static void
ask_tcp(int fd, struct gencore_socket *socket)
{
    struct tcp_info info = {0};
    int size = sizeof(info);

    if (raw5(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) {
        return;
    }
    socket->tcp_state = info.tcpi_state;
    socket->last_sent_ms = (int32_t)(info.tcpi_last_data_sent & INT32_MAX);
    socket->last_received_ms = (int32_t)(info.tcpi_last_data_recv & INT32_MAX);
    if ((size_t)size >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(uint64_t)) {
        socket->received_bytes = (int64_t)info.tcpi_bytes_received; /* Linux 4.1 */
    }
}

static void
describe_socket(int fd, struct gencore_socket *socket)
{
    struct ucred peer = {0, 0, 0};
    int size = sizeof(peer);

    *socket = (struct gencore_socket){
        .family = ask_option(fd, SO_DOMAIN),
        .type = ask_option(fd, SO_TYPE),
        .protocol = ask_option(fd, SO_PROTOCOL),
        .is_listening = ask_option(fd, SO_ACCEPTCONN),
        .peer_pid = GENCORE_NOT_READ,
        .tcp_state = GENCORE_NOT_READ,
        .last_sent_ms = GENCORE_NOT_READ,
        .last_received_ms = GENCORE_NOT_READ,
        .received_bytes = GENCORE_NOT_READ,
    };
    socket->local_size = ask_address(fd, SYS_getsockname, socket->local, sizeof(socket->local));
    socket->peer_size = ask_address(fd, SYS_getpeername, socket->peer, sizeof(socket->peer));
    if (socket->protocol == IPPROTO_TCP) {
        ask_tcp(fd, socket);
    }
    if (socket->family == AF_UNIX
        && raw5(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0) {
        socket->peer_pid = peer.pid;
    }
}

static long
describe_descriptor(struct gencore_items *items, int fd)
{
    struct gencore_open_file *file = (struct gencore_open_file *)gencore_item.bytes;
    struct stat status;
    long flags = raw2(SYS_fcntl, fd, F_GETFL);

    if (flags < 0 || raw2(SYS_fstat, fd, &status) < 0) {
        return 0;
    }
    *file = (struct gencore_open_file){
        .number = fd,
        .mode = status.st_mode,
        .device = status.st_dev,
        .inode = status.st_ino,
        .special = (uint32_t)status.st_rdev,
        .flags = (uint32_t)flags,
        .unread = GENCORE_NOT_READ,
        .unsent = GENCORE_NOT_READ,
        .capacity = GENCORE_NOT_READ,
    };
    gencore_item.used = sizeof(*file);
    if (flags & O_PATH) {
        file->link_size = gencore_add_link(0, fd);
    }
    else if (S_ISSOCK(status.st_mode)) {
        describe_socket(fd, (struct gencore_socket *)(gencore_item.bytes + gencore_item.used));
        file->socket_size = sizeof(struct gencore_socket);
        gencore_item.used += sizeof(struct gencore_socket);
        file->unread = ask_number(fd, FIONREAD);
        file->unsent = ask_number(fd, SIOCOUTQ);
        file->link_size = gencore_add_link(0, fd);
    }
    else {
        file->link_size = gencore_add_link(0, fd);
        if (S_ISFIFO(status.st_mode)) {
            file->unread = ask_number(fd, FIONREAD);
            file->capacity = (int32_t)raw2(SYS_fcntl, fd, F_GETPIPE_SZ);
            file->capacity = file->capacity < 0 ? GENCORE_NOT_READ : file->capacity;
        }
        else if (!S_ISCHR(status.st_mode) && !S_ISDIR(status.st_mode)) {
            /* Locks, events, timers. */
            file->info_size = gencore_add_file(0, "fdinfo", fd, GENCORE_INFO_SIZE);
        }
    }
    return gencore_put_item(items);
}

/* How many are open, as far as they were counted, or GENCORE_NOT_READ. */
static int32_t
describe_descriptors(struct gencore_items *items)
{
    static _Alignas(8) char entries[4096];
    long directory = raw4(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                          0);
    int32_t count = 0, described = 0, is_full = 0;
    long size;

    if (directory < 0) {
        return GENCORE_NOT_READ;
    }
    while (count < COUNT_LIMIT
           && (size = raw3(SYS_getdents64, directory, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < size;) {
            const struct safe_entry *entry = (const struct safe_entry *)(entries + at);
            int32_t fd = safe_entry_number(entry);

            at += entry->size;
            if (fd < 0 || fd == directory || fd == items->fd || fd == items->left_out) {
                continue;
            }
            count++;
            is_full = is_full || described == DESCRIPTOR_LIMIT || gencore_items_over(items);
            if (!is_full) {
                described += describe_descriptor(items, fd) == 0;
            }
        }
    }
    (void)raw1(SYS_close, directory);
    return count;
}

long
gencore_describe_process(struct gencore_capture *capture, int left_out)
{
    struct gencore_record *record = &capture->record;
    int64_t now = safe_now(CLOCK_MONOTONIC);
    struct gencore_items items = {.left_out = left_out, .deadline = now + CHILDREN_NS};
    long fd = raw2(SYS_memfd_create, "gencore-handover", MFD_CLOEXEC);

    record->child_count = record->descriptor_count = GENCORE_NOT_READ;
    record->children_size = record->descriptors_size = 0;
    if (fd == -EMFILE) {
        for (int standard = 0; standard < GENCORE_STANDARD_FDS; standard++) {
            if (standard != left_out) {
                (void)raw1(SYS_close, standard);
            }
        }
        fd = raw2(SYS_memfd_create, "gencore-handover", MFD_CLOEXEC);
    }
    if (fd < 0) {
        return fd;
    }
    items.fd = (int)fd;
    (void)raw3(SYS_lseek, fd, sizeof(*record), SEEK_SET);
    record->child_count = gencore_describe_children(&items, capture->pid);
    record->children_size = items.size;
    items.deadline = now + ALL_NS;
    record->descriptor_count = describe_descriptors(&items);
    record->descriptors_size = items.size - record->children_size;
    return fd;
}
