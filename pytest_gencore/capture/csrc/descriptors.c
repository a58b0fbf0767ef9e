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
#ifndef STATX_TYPE
#include <linux/stat.h> /* musl before 1.2.4 */
#endif

#include "items.h"

#define DESCRIPTOR_LIMIT 1024
#define AT_LEAST 128     /* on a busy machine, too: one takes some 10 us */
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

/*
 * What kind of file it is: as the kernel has it, without asking a server or a program that serves
 * the file system, which may be what hangs.
 */
static void
describe_kind(int fd, struct gencore_open_file *file, int is_path)
{
    struct statx status;

    if (raw5(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &status)
        == 0) {
        file->mode = status.stx_mode;
        file->device_major = status.stx_dev_major;
        file->device_minor = status.stx_dev_minor;
        file->inode = status.stx_ino;
        file->special = status.stx_rdev_major;
    }
    else if (!is_path) { /* a sandbox that does not know the call; of the kernel's own files */
        struct stat old;

        if (raw2(SYS_fstat, fd, &old) == 0) {
            file->mode = old.st_mode;
            file->inode = old.st_ino;
        }
    }
}

static long
describe_descriptor(struct gencore_items *items, int fd)
{
    struct gencore_open_file *file = (struct gencore_open_file *)gencore_item.bytes;
    struct gencore_socket *socket = (struct gencore_socket *)(file + 1);
    char *link = (char *)(socket + 1);
    long flags = raw2(SYS_fcntl, fd, F_GETFL);

    if (flags < 0) {
        return flags;
    }
    *file = (struct gencore_open_file){
        .number = fd,
        .flags = (uint32_t)flags,
        .unread = GENCORE_NOT_READ,
        .unsent = GENCORE_NOT_READ,
        .capacity = GENCORE_NOT_READ,
    };
    gencore_item.used = sizeof(*file) + sizeof(*socket);
    file->link_size = gencore_add_link(0, fd);
    describe_kind(fd, file, file->link_size > 0 && link[0] == '/');
    if (flags & O_PATH) {
        /* Nothing else can be asked of it. */
    }
    else if (S_ISSOCK(file->mode)) {
        describe_socket(fd, socket);
        file->socket_size = sizeof(*socket);
        file->unread = ask_number(fd, FIONREAD);
        file->unsent = ask_number(fd, SIOCOUTQ);
    }
    else if (S_ISFIFO(file->mode)) {
        long capacity = raw2(SYS_fcntl, fd, F_GETPIPE_SZ);

        file->unread = ask_number(fd, FIONREAD);
        file->capacity = capacity < 0 ? GENCORE_NOT_READ : (int32_t)capacity;
    }
    else if (!S_ISCHR(file->mode) && !S_ISDIR(file->mode)) {
        /* Locks, events, timers. */
        file->info_size = gencore_add_file(0, "fdinfo", fd, GENCORE_INFO_SIZE);
    }
    if (!file->socket_size) { /* close up */
        gencore_item.used -= sizeof(*socket);
        __builtin_memmove(socket, link, file->link_size + file->info_size);
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
            is_full = is_full || described == DESCRIPTOR_LIMIT
                      || gencore_items_over(items, described, AT_LEAST);
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
