/*
 * probe.c - run a Python function in a copy of the snapshot, whoever held the GIL.
 *
 * The copy has one thread: that of the capture, with its thread state and its stack. The function
 * writes what it finds out to standard error, at once; it may die of what it reads, or never come
 * back, and nothing is lost but the copy.
 *
 * The state of the GIL is CPython's struct _gil_runtime_state (Include/internal/pycore_gil.h),
 * which has begun alike since 3.2. No internal header: it lies inside of _PyRuntime, which is
 * exported, and is found by its contents, once, by a thread that holds it.
 */
#include "glue.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "raw.h"
#include "signal_safe.h"

#define STDERR_FD 2
/* Bytes below the stack pointer: the red zone, and what the capture put there. */
#define FRAME_GAP 16384
#define DEEP_RECURSION (1 << 20)
#define DROP_REQUEST 1 /* _PY_GIL_DROP_REQUEST_BIT of 3.13 and later */
#define EVAL_BREAKER 3 /* its word in PyThreadState of 3.13 and later */

struct gil {
    unsigned long interval; /* microseconds */
    void *last_holder;
    int locked;
    unsigned long switch_number;
    pthread_cond_t cond;
    pthread_mutex_t mutex;
    pthread_cond_t switch_cond;
    pthread_mutex_t switch_mutex;
};

/* Of _PyRuntime, alike since 3.7: the lock of the lists of interpreters and of threads. */
struct interpreters {
    void *mutex; /* PyThread_type_lock; from 3.13 on, a PyMutex of one byte */
    void *head, *main;
    int64_t next_id;
};

static struct {
    PyObject *function;
    struct gil *gil;                   /* NULL in a build without one, unless it was switched on */
    struct interpreters *interpreters; /* NULL: not found */
    int minor;                         /* of CPython 3 */
    int32_t *drop_request;             /* 3.12 only */
    unsigned long *main_thread; /* of _PyRuntime: who may call Python's signal handlers; or NULL */
} probe;

static PyObject *main_thread_text;

static void
say(const char *text)
{
    (void)safe_write_all(STDERR_FD, text, strlen(text));
}

/* The bytes of _PyRuntime; NULL if it is not exported, or the C library does not tell how large it
 * is, as musl does not: then nothing is diagnosed. */
static char *
find_runtime(size_t *size)
{
#ifndef __GLIBC__
    (void)size;
    return NULL;
#else
    char *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;

    if (!runtime || !dladdr1(runtime, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol) {
        return NULL;
    }
    *size = symbol->st_size;
    return runtime;
#endif
}

/* The caller holds the GIL. NULL if nothing, or more than one thing, looks like it. */
static struct gil *
find_gil(char *runtime, size_t size, unsigned long interval)
{
    struct gil *found = NULL;
    void *state = PyThreadState_Get();

    for (size_t at = 0; at + sizeof(struct gil) <= size; at += sizeof(void *)) {
        struct gil *gil = (struct gil *)(void *)(runtime + at);

        if (gil->interval == interval && gil->last_holder == state && gil->locked == 1) {
            if (found) {
                return NULL;
            }
            found = gil;
        }
    }
    return found;
}

/* NULL if nothing, or more than one thing, looks like it. */
static struct interpreters *
find_interpreters(char *runtime, size_t size)
{
    void *(*get_head)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyInterpreterState_Head");
    void *(*get_main)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyInterpreterState_Main");
    struct interpreters *found = NULL;

    if (!get_head || !get_main) {
        return NULL;
    }
    for (size_t at = 0; at + sizeof(*found) <= size; at += sizeof(void *)) {
        struct interpreters *candidate = (struct interpreters *)(void *)(runtime + at);

        if (candidate->head == get_head() && candidate->main == get_main()
            && candidate->next_id >= 1 && candidate->next_id <= INT32_MAX) {
            if (found) {
                return NULL;
            }
            found = candidate;
        }
    }
    return found;
}

/* 3.12: int eval_breaker, gil_drop_request, recursion_limit; then, aligned, a pointer to the GIL.
 */
static int32_t *
find_drop_request(char *runtime, size_t size, const struct gil *gil)
{
    for (size_t at = 2 * sizeof(void *); at + sizeof(void *) <= size; at += sizeof(void *)) {
        int32_t *before = (int32_t *)(void *)(runtime + at - sizeof(void *));

        if (*(const struct gil **)(void *)(runtime + at) == gil
            && before[0] == Py_GetRecursionLimit()) {
            return before - 1;
        }
    }
    return NULL;
}

/* Whether CPython takes this thread for its main one. */
static int
is_main_thread(PyObject *signal_module)
{
    PyObject *type, *value, *traceback, *text;
    PyObject *result = PyObject_CallMethod(signal_module, "signal", "ii", 0, 0);
    int is_main;

    if (result) {
        Py_DECREF(result);
        return 1; /* there is no signal 0 */
    }
    PyErr_Fetch(&type, &value, &traceback);
    text = value ? PyObject_Str(value) : NULL;
    is_main = text && PyUnicode_Find(text, main_thread_text, 0, PyUnicode_GetLength(text), 1) < 0;
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return is_main;
}

/*
 * Find where CPython has the id of its main thread, which alone runs Python's signal handlers: by
 * its contents, and by what signal.signal() says when it is another one. NULL if it cannot be
 * found, or if the caller is another thread.
 */
static unsigned long *
find_main_thread(char *runtime, size_t size)
{
    unsigned long ident = PyThread_get_thread_ident(), *found = NULL;
    PyObject *signal_module = PyImport_ImportModule("signal");

    if (!main_thread_text) {
        main_thread_text = PyUnicode_FromString("main thread");
    }
    if (!signal_module || !main_thread_text || !is_main_thread(signal_module)) {
        PyErr_Clear();
        Py_XDECREF(signal_module);
        return NULL;
    }
    for (size_t at = 0; at + sizeof(ident) <= size && !found; at += sizeof(ident)) {
        unsigned long *candidate = (unsigned long *)(void *)(runtime + at);

        if (*candidate == ident) {
            *candidate = 0;
            found = is_main_thread(signal_module) ? NULL : candidate;
            *candidate = ident;
        }
    }
    PyErr_Clear();
    Py_DECREF(signal_module);
    return found;
}

/*
 * Make the GIL free, or ours if it is: nobody else is there to give it back. A request to drop it
 * is taken back, too: whoever drops it waits until another thread has taken it.
 */
static void
reset_gil(struct gil *gil, void *state)
{
    pthread_condattr_t attributes;
    int is_ours = gil->locked == 1 && gil->last_holder == state;

    say(is_ours            ? "{\"fact\": \"gil\", \"held_by\": \"own\"}\n"
        : gil->locked == 1 ? "{\"fact\": \"gil\", \"held_by\": \"other\"}\n"
                           : "{\"fact\": \"gil\", \"held_by\": null}\n");
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&gil->cond, &attributes);
    (void)pthread_cond_init(&gil->switch_cond, &attributes);
    (void)pthread_mutex_init(&gil->mutex, NULL);
    (void)pthread_mutex_init(&gil->switch_mutex, NULL);
    if (is_ours && probe.minor >= 13) {
        ((uintptr_t *)state)[EVAL_BREAKER] &= ~(uintptr_t)DROP_REQUEST;
        return;
    }
    if (is_ours && probe.drop_request) {
        *probe.drop_request = 0;
        return;
    }
    if (is_ours) {
        (void)PyThreadState_Swap(NULL);
    }
    gil->locked = 0;
    gil->last_holder = NULL;
}

/* Whoever had it, in the middle of starting or ending a thread, will not give it back. */
static void
free_list_of_threads(struct interpreters *interpreters)
{
    if (probe.minor >= 13) {
        *(uint8_t *)&interpreters->mutex = 0;
    }
    else if (interpreters->mutex) {
        (void)PyThread_acquire_lock((PyThread_type_lock)interpreters->mutex, NOWAIT_LOCK);
        PyThread_release_lock((PyThread_type_lock)interpreters->mutex);
    }
}

/* On the stack of the captured thread: its limits are those that CPython knows. */
static void
run(void)
{
    void *state = PyGILState_GetThisThreadState();
    PyObject *type, *value, *traceback, *result;

    if (!state) {
        return; /* of no Python thread */
    }
    if (probe.main_thread) {
        *probe.main_thread = 0; /* a signal may have come: its handler is the test's code */
    }
    gencore_use_own_heap();
    if (probe.gil && probe.gil->locked == 1) { /* somebody was in the middle of Python's work */
        gencore_mend_young_objects();
    }
    if (probe.interpreters) {
        free_list_of_threads(probe.interpreters);
    }
    if (probe.gil) {
        reset_gil(probe.gil, state);
    }
#ifdef Py_GIL_DISABLED
    gencore_detach_threads(state);
#endif
    (void)PyGILState_Ensure();
    (void)PyGC_Disable();
    Py_SetRecursionLimit(DEEP_RECURSION);
    PyErr_Fetch(&type, &value, &traceback);
    result = PyObject_CallFunction(probe.function, NULL);
    say(result ? "{\"fact\": \"end\"}\n" : "{\"fact\": \"failed\"}\n");
}

static void
probe_main(int unused)
{
    uintptr_t stack = (uintptr_t)gencore_captured_stack();

    (void)unused;
    if (stack > FRAME_GAP) {
        gencore_call_on_stack((void *)((stack - FRAME_GAP) & ~(uintptr_t)63), run);
    }
}

PyDoc_STRVAR(
    arm_probe_doc,
    "arm_probe(function, interval, minor, /)\n--\n\n"
    "Let copies of later snapshots call a Python function without arguments.\n\n"
    "interval: sys.getswitchinterval() in microseconds. minor: of the version of CPython 3. "
    "Returns\n"
    "whether it can be done: the state of the GIL was found, or there is none.");

static PyObject *
native_arm_probe(PyObject *module, PyObject *args)
{
    PyObject *function;
    unsigned long interval;
    int minor;
    size_t size = 0;
    char *runtime = find_runtime(&size);

    (void)module;
    if (!PyArg_ParseTuple(args, "Oki:arm_probe", &function, &interval, &minor)) {
        return NULL;
    }
    gencore_set_probe(NULL);
    probe.gil = runtime ? find_gil(runtime, size, interval) : NULL;
    probe.interpreters = runtime ? find_interpreters(runtime, size) : NULL;
    probe.minor = minor;
    probe.drop_request = NULL;
    probe.main_thread = runtime ? find_main_thread(runtime, size) : NULL;
    if (probe.gil && minor == 12) {
        probe.drop_request = find_drop_request(runtime, size, probe.gil);
    }
#ifndef Py_GIL_DISABLED
    if (!probe.gil || (minor == 12 && !probe.drop_request)) {
        return PyBool_FromLong(0);
    }
    gencore_find_young_objects();
#endif
    gencore_find_allocator();
    Py_INCREF(function);
    Py_XDECREF(probe.function);
    probe.function = function;
    gencore_set_probe(probe_main);
    return PyBool_FromLong(1);
}

PyDoc_STRVAR(disarm_probe_doc,
             "disarm_probe()\n--\n\n"
             "Call nothing any more in copies of later snapshots, and let go of the function.");

static PyObject *
native_disarm_probe(PyObject *module, PyObject *args)
{
    PyObject *function = probe.function;

    (void)module;
    (void)args;
    gencore_set_probe(NULL);
    probe.function = NULL;
    Py_XDECREF(function);
    return native_none();
}

PyMethodDef native_probe_methods[] = {
    {"arm_probe", native_arm_probe, METH_VARARGS, arm_probe_doc},
    {"disarm_probe", native_disarm_probe, METH_NOARGS, disarm_probe_doc},
    {NULL, NULL, 0, NULL},
};
