/* runfiles.h - the files of one capture: who makes them, who removes them. */
#ifndef GENCORE_RUNFILES_H
#define GENCORE_RUNFILES_H

#include "gencore.h"

/* What the collector-to-be holds; -1 if not. All close-on-exec until they get their fixed numbers.
 */
struct gencore_files {
    int directory; /* the artifact directory */
    int run;       /* the run's folder in it */
    int work;      /* the snapshot's working directory */
    int archive;
    int state;
    int log;
    int commands[2]; /* pipe: collector to snapshot */
    int replies[2];  /* pipe: snapshot to collector */
    int handover;
    int claimed; /* whether the capture's claim is ours */
};
#define GENCORE_NO_FILES                                                               \
    (struct gencore_files)                                                             \
    {                                                                                  \
        .directory = -1, .run = -1, .work = -1, .archive = -1, .state = -1, .log = -1, \
        .commands = {-1, -1}, .replies = {-1, -1}, .handover = -1, .claimed = 0,       \
    }

/* Note in the capture's result where it failed; returns `error`, a -errno. */
int gencore_fail(struct gencore_capture *capture, enum gencore_stage stage, long error);

/*
 * Make every file and pipe of one capture, and take its claim, slot and name. 0, or -errno with
 * stage and error in the result. What was made so far is in `files` in either case: the caller
 * removes it after a failure.
 */
int gencore_open_files(struct gencore_capture *capture, struct gencore_files *files);

/* Remove the names again, after a failure; needs `directory` and `run` open. Closes nothing. */
void gencore_remove_files(struct gencore_capture *capture, const struct gencore_files *files);

/* Open `directory` and `run` again, by whoever has closed them; -1 each that cannot be. */
void gencore_reopen_folders(struct gencore_capture *capture, struct gencore_files *files);

#endif
