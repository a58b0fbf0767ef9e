/*
 * protocol.h - all that the captured process, its snapshot and the collector agree on.
 *
 * The Python side of it is pytest_gencore/protocol.py; tests/native/test_protocol.py compares every
 * offset, size and value. Numbers are in the byte order of the machine: both sides run on it.
 */
#ifndef GENCORE_PROTOCOL_H
#define GENCORE_PROTOCOL_H

#include <stdint.h>

#if defined(__x86_64__)
#define GENCORE_REGISTERS 27 /* struct user_regs_struct, sys/user.h */
#elif defined(__aarch64__)
#define GENCORE_REGISTERS 34 /* struct user_pt_regs, asm/ptrace.h */
#endif

#define GENCORE_NAME_SIZE 64 /* "core_YYYYMMDD.HHMMSS.PID.SEQ": at most 37 */
/* Bytes at most of the end of an output: with its stack a "Fatal Python error" has more than 4 KiB.
 */
#define GENCORE_OUTPUT_SIZE 16384

/*
 * The list of tests that a process has begun, of which the last one counts, is a file: a head in
 * JSON, whose last byte says which slot is the newer one, '0' or '1', and the slots. The text of
 * one is nanoseconds since 1970, a blank, the JSON of a name, and a newline; '-': none has begun.
 */
#define GENCORE_LIST_HEAD 4096
#define GENCORE_LIST_SLOT 32768 /* a name may be long: cut */

/* File descriptors of the collector when it starts. */
enum gencore_descriptor {
    /* memfd: record, children, descriptors, threads, JSON, ends of the output */
    GENCORE_FD_HANDOVER = 3,
    GENCORE_FD_ARCHIVE = 4,  /* NAME.tar.gz.partial, write only */
    GENCORE_FD_STATE = 5,    /* NAME.json in the run's folder, locked while the collector lives */
    GENCORE_FD_COMMANDS = 6, /* write end: commands to the snapshot */
    GENCORE_FD_REPLIES = 7,  /* read end: the snapshot's replies */
    GENCORE_FD_STDERR = 8,   /* the test run's standard error, if it is to be told */
};

/* Where a capture failed. The messages are in capture/stages.py. */
enum gencore_stage {
    GENCORE_STAGE_NONE = 0,
    GENCORE_STAGE_BUSY = 1,
    GENCORE_STAGE_TABLE = 2,
    GENCORE_STAGE_LAUNCH = 3,
    GENCORE_STAGE_DIRECTORY = 4,
    GENCORE_STAGE_RUN_DIRECTORY = 5,
    GENCORE_STAGE_NAME = 6,
    GENCORE_STAGE_FILES = 7,
    GENCORE_STAGE_SNAPSHOT = 8,
    GENCORE_STAGE_HANDOVER = 9,
    GENCORE_STAGE_EXEC = 10,
    GENCORE_STAGE_DIED = 11,
    GENCORE_STAGE_CLAIMED = 12, /* the test has its capture */
    GENCORE_STAGE_LIMIT = 13,   /* the run has as many captures as it may have */
    GENCORE_STAGE_FULL = 14,    /* its archives are as large as they may be */
    GENCORE_STAGE_OWNER = 15,   /* the run's folder belongs to another user */
    GENCORE_STAGE_MODE = 16,    /* the run's folder is open to others */
    GENCORE_STAGE_PIPES = 17,   /* descriptors that no file of a disk stands behind */
};
#define GENCORE_STAGE_LAST GENCORE_STAGE_PIPES

/* How far the stop of one thread got. The manifest tells it to the reader of a core. */
enum gencore_thread_state {
    GENCORE_THREAD_FREE = 0,
    GENCORE_THREAD_ASKED = 1,   /* signal sent, no answer yet */
    GENCORE_THREAD_STOPPED = 2, /* waits in the handler, registers saved */
    GENCORE_THREAD_CALLING = 3, /* the thread that captures */
    GENCORE_THREAD_MASKED = 4,  /* blocks the signal: not reached */
    GENCORE_THREAD_SILENT = 5,  /* did not answer before the deadline: not reached */
    GENCORE_THREAD_GONE = 6,    /* ended meanwhile; not handed over */
    GENCORE_THREAD_UNASKED = 7, /* no room for the signal (RLIMIT_SIGPENDING): not reached */
};

/* Where in its test a process is. */
enum gencore_phase {
    GENCORE_PHASE_NONE = 0,
    GENCORE_PHASE_SETUP = 1,
    GENCORE_PHASE_CALL = 2,
    GENCORE_PHASE_TEARDOWN = 3,
};

/* Deadlines, each with a timer of its own. */
enum gencore_deadline {
    GENCORE_DEADLINE_GENCORE = 0,        /* ours */
    GENCORE_DEADLINE_PYTEST_TIMEOUT = 1, /* its alarm follows; interrupts system calls */
    GENCORE_DEADLINE_SESSION = 2,        /* ours, of a run without progress */
    GENCORE_DEADLINE_SLOW = 3,           /* a part of that of a test: it is only told */
};
#define GENCORE_DEADLINES 4

/* First in the hand-over. */
struct gencore_record {
    char magic[8];         /* "GENCORE1" */
    uint32_t record_size;  /* sizeof(struct gencore_record) */
    uint32_t thread_size;  /* sizeof(struct gencore_thread) */
    uint32_t thread_count; /* thread records that follow, the calling thread first */
    uint32_t registers;    /* GENCORE_REGISTERS */
    int32_t pid;           /* the captured process */
    int32_t tid;           /* the capturing thread */
    int32_t snapshot_pid;
    int32_t stop_signal; /* 0: threads were not stopped */
    uint64_t text_size;  /* bytes of JSON after the thread records */
    uint64_t core_filter;
    int64_t started_ns;      /* CLOCK_REALTIME when the capture began */
    int64_t stop_ns;         /* until all threads had stopped */
    int64_t snapshot_ns;     /* the clone itself */
    int64_t pause_ns;        /* of the others: until their release, or until the clone if held */
    int64_t stopped_at_ns;   /* CLOCK_MONOTONIC of the first stop signal */
    int64_t hold_ns;         /* 0: released; else held for the collector, at most that long */
    uint64_t trace_function; /* see GENCORE_COMMAND_TRACE; 0: none */
    uint64_t probe_function; /* see GENCORE_COMMAND_PROBE; 0: none */
    int64_t forked_signal;   /* with it a child tells where it stands; 0: it cannot */
    int64_t ident_offset;    /* pthread_self(3) of a thread minus its thread pointer */
    uint64_t signed_bits;    /* of addresses of code: where their signature is; 0: none */
    int64_t cpu_ns;          /* that the capturing thread has used since its deadline was set */
    int64_t wall_ns;         /* and how long ago that was; 0: not known */
    int64_t place_ns;        /* since it was said which test runs */
    int64_t place_tid;       /* by which thread */
    uint64_t journal_address;
    uint64_t journal_size;      /* bytes of notes at that address, see gencore_note() */
    uint64_t workers_address;   /* of a controller: struct gencore_worker */
    uint64_t workers_count;     /* how many there are; some may be free */
    uint64_t children_size;     /* bytes of struct gencore_child with their texts, after this */
    uint64_t descriptors_size;  /* bytes of struct gencore_open_file likewise, after those */
    int32_t child_count;        /* seen, more than are described perhaps; -1: not looked for */
    int32_t descriptor_count;   /* likewise of those that were open, or at least as many */
    int32_t all_threads_signal; /* with it the function writes 100 stacks at most */
    int32_t own_thread_signal;  /* with it that of the capturing thread; 0: it cannot */
    uint32_t slot;              /* which of the run's captures it is, 0 if they are not limited */
    uint32_t phase;             /* enum gencore_phase; for captures whose text was written before */
    int32_t attempt;            /* of the test, likewise */
    int32_t has_stderr;         /* GENCORE_FD_STDERR is open */
    uint32_t stdout_size;       /* bytes of the end of standard output, after the JSON */
    uint32_t stderr_size;       /* bytes of the end of standard error, after that */
    uint8_t info[128];          /* siginfo_t, zeros without a signal */
    char name[GENCORE_NAME_SIZE];
};

/* A number in what follows that could not be read. */
#define GENCORE_NOT_READ (-1)

/*
 * A descriptor of the captured process, in the hand-over. Then come the facts of a socket, what its
 * link in /proc/PID/fd says and what /proc/PID/fdinfo says, cut where they are too long.
 */
struct gencore_open_file {
    int32_t number;
    uint32_t mode;         /* st_mode */
    uint32_t device_major; /* of the file system */
    uint32_t device_minor;
    uint64_t inode;
    uint32_t special;     /* the major number of a device */
    uint32_t flags;       /* of open(2), as F_GETFL has them */
    int32_t unread;       /* bytes that could be read now: FIONREAD */
    int32_t unsent;       /* bytes that the other side has not taken: SIOCOUTQ */
    int32_t capacity;     /* of a pipe */
    uint32_t socket_size; /* sizeof(struct gencore_socket), 0 if it is none */
    uint32_t link_size;
    uint32_t info_size;
};

/* Of a socket. */
struct gencore_socket {
    int32_t family;
    int32_t type;
    int32_t protocol;
    int32_t is_listening;
    int32_t peer_pid;         /* of a unix socket: who connected, listened or made the pair */
    int32_t tcp_state;        /* enum of <netinet/tcp.h> */
    int32_t last_sent_ms;     /* data, before now */
    int32_t last_received_ms; /* data, before now; or the connection was made then */
    int64_t received_bytes;   /* since it was made */
    uint32_t local_size;
    uint32_t peer_size;
    uint8_t local[112]; /* struct sockaddr of the family */
    uint8_t peer[112];
};

/*
 * A child of the captured process, in the hand-over. Then come the texts: stat, cmdline, wchan and
 * syscall of /proc/PID, each cut where it is too long and empty if it may not be read, and the
 * links of some of its descriptors: "NUMBER=TEXT", each with a zero behind it.
 */
struct gencore_child {
    int32_t pid;
    uint32_t stat_size;
    uint32_t command_size;
    uint32_t channel_size;
    uint32_t call_size;
    uint32_t links_size;
};

/* One thread of the captured process, in the hand-over. */
struct gencore_thread {
    int32_t tid;
    uint32_t state;      /* enum gencore_thread_state; set last by the thread itself */
    char name[16];       /* as PR_GET_NAME gives it */
    uint64_t fp_address; /* in the captured memory: signal-frame floating point area, 0 if none */
    uint64_t fp_size;    /* bytes */
    uint64_t tls;        /* the thread pointer: fs base, or tpidr_el0 */
    uint64_t sigmask;    /* blocked signals at the time of the stop, 0 if not known */
    uint64_t regs[GENCORE_REGISTERS]; /* order of NT_PRSTATUS */
};

/* First bytes on the reply pipe: errno of each step, 0 if it worked. */
struct gencore_snapshot_status {
    int32_t pid;
    int32_t filter_error; /* coredump_filter, refused under gVisor */
    int32_t oom_error;    /* oom_score_adj */
    int32_t limit_error;  /* RLIMIT_CORE */
    int32_t chdir_error;
    uint32_t page_size;
};

#define GENCORE_WORKERS 256 /* of one controller */

enum gencore_worker_state {
    GENCORE_WORKER_FREE = 0,      /* there is none in this place */
    GENCORE_WORKER_HEARD = 1,     /* it is expected to say something */
    GENCORE_WORKER_DISMISSED = 2, /* it has said its last; the process may be there */
};

/* A worker of pytest-xdist, in the memory of its controller. */
struct gencore_worker {
    int64_t heard_at; /* CLOCK_MONOTONIC of its last message, or when it was started */
    uint64_t test;    /* address of the struct gencore_worker_test that it runs; 0: none */
    int32_t pid;      /* 0: it is on another machine */
    int32_t state;    /* enum gencore_worker_state */
    char name[32];
};

/* Its test. Then comes the name, UTF-8. */
struct gencore_worker_test {
    int64_t began_at; /* CLOCK_MONOTONIC */
    uint64_t size;    /* bytes of the name; 0: it collects its tests */
};

/* What the collector asks of the snapshot; one reply each. */
enum gencore_command_kind {
    GENCORE_COMMAND_READ = 1,       /* address, size: the bytes; unreadable pages as zeros */
    GENCORE_COMMAND_MINCORE = 2,    /* address, pages: a byte each, see mincore(2); 0xff: error */
    GENCORE_COMMAND_UNREADABLE = 3, /* -, -: uint64_t, pages that were sent as zeros so far */
    GENCORE_COMMAND_CRASH = 4,      /* -, -: a copy waits for SIGSEGV; struct gencore_crash */
    /*
     * function, signal: a copy calls function(signal), which writes to its standard error. Pieces,
     * each after its uint32_t size; a last size 0. A copy, as the function may not survive what it
     * reads.
     */
    GENCORE_COMMAND_TRACE = 5,
    /*
     * function, milliseconds: a copy calls function(0), which runs Python and writes what it finds
     * out to its standard error. Answered as GENCORE_COMMAND_TRACE.
     */
    GENCORE_COMMAND_PROBE = 6,
};

struct gencore_command {
    uint64_t kind; /* enum gencore_command_kind */
    uint64_t address;
    uint64_t size;
};

/* Reply to GENCORE_COMMAND_CRASH in two parts: the pid at once, the wait status when it has died.
 */
struct gencore_crash {
    int32_t pid; /* or -errno */
    int32_t status;
};

#endif
