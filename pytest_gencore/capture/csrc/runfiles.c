/*
 * runfiles.c - everything that makes or removes a file: names, folders, claims, slots, pipes.
 *
 * Runs in the collector-to-be. Files are made relative to open directories, never through a link,
 * with O_EXCL and for this user alone. pytest_gencore/run/files.py has a table of them.
 */
#include <linux/memfd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "gencore.h"
#include "runfiles.h"
#include "signal_safe.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define SEQUENCE_LIMIT 100000u
#define REPLY_PIPE_SIZE (1024 * 1024) /* fewer switches */

int
gencore_fail(struct gencore_capture *capture, enum gencore_stage stage, long error)
{
    capture->result.stage = (int32_t)stage;
    capture->result.error = (int32_t)-error;
    return (int)error;
}

/* ---- names ------------------------------------------------------------------------ */

/* Days since 1970-01-01 to a civil date; the usual era arithmetic, proleptic Gregorian, UTC. */
static void
put_time(struct safe_text *text, int64_t seconds)
{
    int64_t days = seconds / 86400, second = seconds % 86400;
    int64_t shifted = days + 719468; /* from 0000-03-01 */
    int64_t era = shifted / 146097, of_era = shifted % 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * of_year + 2) / 153;
    int64_t day = of_year - (153 * month_from_march + 2) / 5 + 1;
    int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;

    safe_put_number(text, (uint64_t)(year_of_era + era * 400 + (month <= 2)), 4);
    safe_put_number(text, (uint64_t)month, 2);
    safe_put_number(text, (uint64_t)day, 2);
    safe_put(text, ".");
    safe_put_number(text, (uint64_t)(second / 3600), 2);
    safe_put_number(text, (uint64_t)(second / 60 % 60), 2);
    safe_put_number(text, (uint64_t)(second % 60), 2);
}

/* "core_YYYYMMDD.HHMMSS.PID.SEQ", UTC */
static void
make_name(char name[GENCORE_NAME_SIZE], int64_t nanoseconds, int32_t pid, uint32_t sequence)
{
    struct safe_text text = safe_text_in(name, GENCORE_NAME_SIZE);

    safe_put(&text, "core_");
    put_time(&text, nanoseconds / NANOSECONDS);
    safe_put(&text, ".");
    safe_put_number(&text, (uint64_t)pid, 1);
    safe_put(&text, ".");
    safe_put_number(&text, sequence, 3);
}

static void
name_with(char *buffer, size_t size, const char *name, const char *suffix)
{
    struct safe_text text = safe_text_in(buffer, size);

    safe_put(&text, name);
    safe_put(&text, suffix);
}

/* ---- files ------------------------------------------------------------------------ */

/* Why a directory is missing: below one that could not be made, ENOENT says nothing. */
static long
make_directory(const char *path, long error)
{
    long made = raw3(SYS_mkdirat, AT_FDCWD, path, 0700);

    if (made == -ENOENT && error < 0) {
        return error;
    }
    return made == -EEXIST ? 0 : made;
}

/* 0, or -errno: then the last one is missing, if it is, because of that. */
static long
make_directories(const char *path)
{
    char prefix[4096];
    long error = 0;
    size_t i;

    for (i = 0; path[i] && i < sizeof(prefix) - 1; i++) {
        if (path[i] == '/' && i > 0) {
            prefix[i] = '\0';
            error = make_directory(prefix, error);
        }
        prefix[i] = path[i];
    }
    prefix[i] = '\0';
    return make_directory(prefix, error);
}

/* STAGE_NONE if a directory is this user's alone, else what it lacks. */
static enum gencore_stage
check_private(long fd)
{
    struct stat status;

    if (raw2(SYS_fstat, fd, &status) < 0 || (long)status.st_uid != raw0(SYS_geteuid)) {
        return GENCORE_STAGE_OWNER;
    }
    return status.st_mode & 077 ? GENCORE_STAGE_MODE : GENCORE_STAGE_NONE;
}

/* The run's folder is ours alone: never through a link, never somebody else's. *stage says why not.
 */
static long
open_private_directory(int parent, const char *name, enum gencore_stage *stage)
{
    long made = raw3(SYS_mkdirat, parent, name, 0700);
    enum gencore_stage lacks;
    long fd;

    if (made < 0 && made != -EEXIST) {
        return made;
    }
    fd = raw4(SYS_openat, parent, name, DIRECTORY_FLAGS | O_NOFOLLOW, 0);
    lacks = fd < 0 ? GENCORE_STAGE_NONE : check_private(fd);
    if (lacks != GENCORE_STAGE_NONE) {
        *stage = lacks;
        (void)raw1(SYS_close, fd);
        if (made == 0) {
            (void)raw3(SYS_unlinkat, parent, name, AT_REMOVEDIR);
        }
        return -EPERM;
    }
    return fd;
}

static long
create_private(int parent, const char *name)
{
    return raw4(SYS_openat, parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                0600);
}

/* The archive's name is taken by creating its .partial; the first free sequence number wins. */
static int
reserve_name(struct gencore_capture *capture, struct gencore_files *files)
{
    char *name = capture->result.name;
    char file_name[GENCORE_NAME_SIZE + 16];

    for (uint32_t tries = 0; tries < SEQUENCE_LIMIT; tries++) {
        long error;

        make_name(name, capture->record.started_ns, capture->pid, ++capture->sequence);
        name_with(file_name, sizeof(file_name), name, ".tar.gz");
        if (raw3(SYS_faccessat, files->directory, file_name, 0) == 0) {
            continue;
        }
        name_with(file_name, sizeof(file_name), name, ".tar.gz.partial");
        error = create_private(files->directory, file_name);
        if (error >= 0) {
            files->archive = (int)error;
            return 0;
        }
        if (error != -EEXIST) {
            return gencore_fail(capture, GENCORE_STAGE_NAME, error);
        }
    }
    return gencore_fail(capture, GENCORE_STAGE_NAME, -EEXIST);
}

/* Count what is refused, a byte each; the file's size is the number. */
static void
count_refusal(int run, const char *name)
{
    long fd = raw4(SYS_openat, run, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
                   0600);

    if (fd >= 0) {
        (void)safe_write_all((int)fd, ".", 1);
        (void)raw1(SYS_close, fd);
    }
}

static int
make_mark(int run, const char *name)
{
    long fd = create_private(run, name);

    if (fd >= 0) {
        (void)raw1(SYS_close, fd);
    }
    return fd < 0 ? (int)fd : 0;
}

static void
slot_name(char *buffer, size_t size, uint32_t slot)
{
    struct safe_text text = safe_text_in(buffer, size);

    safe_put(&text, "slot-");
    safe_put_number(&text, slot, 1);
}

/* One of the run's captures is ours, shared by all its processes. */
static int
take_slot(struct gencore_capture *capture, const struct gencore_files *files)
{
    int32_t limit = capture->plan->max_captures;
    char name[32];

    if (capture->request->is_only_told) {
        return 0;
    }
    if (raw3(SYS_faccessat, files->run, "full", 0) == 0) {
        count_refusal(files->run, "refused-full");
        return gencore_fail(capture, GENCORE_STAGE_FULL, -EDQUOT);
    }
    for (int32_t slot = 1; slot <= limit; slot++) {
        int error;

        slot_name(name, sizeof(name), (uint32_t)slot);
        error = make_mark(files->run, name);
        if (error == 0) {
            capture->record.slot = (uint32_t)slot;
            return 0;
        }
        if (error != -EEXIST) {
            return gencore_fail(capture, GENCORE_STAGE_FILES, error);
        }
    }
    if (limit >= 0) {
        count_refusal(files->run, "refused-limit");
        return gencore_fail(capture, GENCORE_STAGE_LIMIT, -EDQUOT);
    }
    return 0;
}

/* One capture a test, also if another worker runs it again. */
static int
take_claim(struct gencore_capture *capture, struct gencore_files *files)
{
    int error;

    if (!capture->claim[0]) {
        return 0;
    }
    error = make_mark(files->run, capture->claim);
    if (error == 0) {
        files->claimed = 1;
        return 0;
    }
    if (error != -EEXIST) {
        return gencore_fail(capture, GENCORE_STAGE_FILES, error);
    }
    count_refusal(files->run, capture->claim);
    return gencore_fail(capture, GENCORE_STAGE_CLAIMED, error);
}

/* The folders that are there before a capture is allowed: artifact directory and run's folder. */
static int
open_folders(struct gencore_capture *capture, struct gencore_files *files)
{
    enum gencore_stage stage = GENCORE_STAGE_RUN_DIRECTORY;
    long error = make_directories(capture->plan->directory);
    long fd = raw4(SYS_openat, AT_FDCWD, capture->plan->directory, DIRECTORY_FLAGS, 0);

    if (fd < 0) {
        return gencore_fail(capture, GENCORE_STAGE_DIRECTORY,
                            fd == -ENOENT && error < 0 ? error : fd);
    }
    files->directory = (int)fd;
    fd = open_private_directory(files->directory, capture->plan->run_name, &stage);
    if (fd < 0) {
        return gencore_fail(capture, stage, fd);
    }
    files->run = (int)fd;
    return 0;
}

/* Work directory, state file and log of the collector. */
static long
open_work_files(struct gencore_capture *capture, struct gencore_files *files)
{
    char file_name[GENCORE_NAME_SIZE + 16];
    enum gencore_stage stage;
    long fd = open_private_directory(files->run, capture->result.name, &stage);

    if (fd < 0) {
        return fd;
    }
    files->work = (int)fd;
    name_with(file_name, sizeof(file_name), capture->result.name, ".json");
    fd = create_private(files->run, file_name);
    if (fd < 0) {
        return fd;
    }
    files->state = (int)fd;
    (void)raw2(SYS_flock, files->state, LOCK_EX | LOCK_NB);
    name_with(file_name, sizeof(file_name), capture->result.name, ".log");
    fd = create_private(files->run, file_name);
    if (fd < 0) {
        return fd;
    }
    files->log = (int)fd;
    return 0;
}

static long
open_pipes(struct gencore_files *files)
{
    long error = raw2(SYS_pipe2, files->commands, O_CLOEXEC);

    if (error == 0) {
        error = raw2(SYS_pipe2, files->replies, O_CLOEXEC);
    }
    if (error == 0 && files->handover < 0) {
        error = raw2(SYS_memfd_create, "gencore-handover", MFD_CLOEXEC);
        files->handover = (int)error;
    }
    if (error < 0) {
        return error;
    }
    (void)raw3(SYS_fcntl, files->replies[0], F_SETPIPE_SZ, REPLY_PIPE_SIZE); /* may be refused */
    return 0;
}

int
gencore_open_files(struct gencore_capture *capture, struct gencore_files *files)
{
    long error = open_folders(capture, files);

    if (error == 0) {
        error = take_claim(capture, files);
    }
    if (error == 0) {
        error = take_slot(capture, files);
    }
    if (error == 0) {
        error = reserve_name(capture, files);
    }
    if (error < 0) {
        return (int)error; /* stage and error are told */
    }
    error = open_work_files(capture, files);
    if (error < 0) {
        return gencore_fail(capture, GENCORE_STAGE_FILES, error);
    }
    error = open_pipes(files);
    return error < 0 ? gencore_fail(capture, GENCORE_STAGE_PIPES, error) : 0;
}

void
gencore_remove_files(struct gencore_capture *capture, const struct gencore_files *files)
{
    const char *name = capture->result.name;
    char file_name[GENCORE_NAME_SIZE + 16];

    if (files->archive >= 0) {
        name_with(file_name, sizeof(file_name), name, ".tar.gz.partial");
        (void)raw3(SYS_unlinkat, files->directory, file_name, 0);
    }
    if (files->run >= 0) {
        if (capture->record.slot) {
            slot_name(file_name, sizeof(file_name), capture->record.slot);
            (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        }
        if (files->claimed) {
            (void)raw3(SYS_unlinkat, files->run, capture->claim, 0);
        }
        name_with(file_name, sizeof(file_name), name, ".json");
        (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        name_with(file_name, sizeof(file_name), name, ".log");
        (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        (void)raw3(SYS_unlinkat, files->run, name, AT_REMOVEDIR);
        /* Only if it is empty. */
        (void)raw3(SYS_unlinkat, files->directory, capture->plan->run_name, AT_REMOVEDIR);
    }
}

void
gencore_reopen_folders(struct gencore_capture *capture, struct gencore_files *files)
{
    enum gencore_stage stage;

    files->directory = (int)raw4(SYS_openat, AT_FDCWD, capture->plan->directory, DIRECTORY_FLAGS,
                                 0);
    files->run = (int)open_private_directory(files->directory, capture->plan->run_name, &stage);
}
