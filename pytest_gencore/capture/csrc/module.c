/* module.c - the engine for Python: plans, captures, the test's phase. triggers.c has handlers and
 * deadlines. */
#include "glue.h"
#include "place.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

PyObject *
native_error(int error)
{
    errno = -error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- plan: argv, envp and paths, copied so that nothing in Python can change them - */

static void
free_strings(char *const *strings)
{
    if (strings) {
        for (char *const *at = strings; *at; at++) {
            free(*at);
        }
        free((void *)strings);
    }
}

static void
free_plan(struct gencore_plan *plan)
{
    free_strings(plan->argv);
    free_strings(plan->envp);
    free_strings(plan->messages);
    free((void *)plan->directory);
    free((void *)plan->run_name);
    free(plan);
}

static void
plan_destructor(PyObject *capsule)
{
    struct gencore_plan *plan = PyCapsule_GetPointer(capsule, NATIVE_PLAN);

    if (plan) {
        free_plan(plan);
    }
}

/* A list of bytes as an array ended by NULL, the caller's; NULL with an exception set on error. */
static char **
copy_strings(PyObject *list)
{
    Py_ssize_t count = PyList_Size(list);
    char **strings;

    if (count < 0) {
        return NULL;
    }
    strings = (char **)calloc((size_t)count + 1, sizeof(char *));
    if (!strings) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char *text;

        /* Without a place for the length it refuses bytes with a zero in them. */
        if (PyBytes_AsStringAndSize(PyList_GetItem(list, i), &text, NULL) < 0) {
            free_strings(strings);
            return NULL;
        }
        strings[i] = strdup(text);
        if (!strings[i]) {
            free_strings(strings);
            PyErr_NoMemory();
            return NULL;
        }
    }
    return strings;
}

PyDoc_STRVAR(
    prepare_doc,
    "prepare(argv, envp, directory, run_name, messages, stderr_fd, max_captures, /)\n--\n\n"
    "Copy what collectors are started with and return it as an opaque plan.\n\n"
    "messages: what failed, by stage. stderr_fd: stays the caller's, -1 for none.");

static PyObject *
native_prepare(PyObject *module, PyObject *args)
{
    PyObject *argv, *envp, *messages, *capsule;
    const char *directory, *run_name;
    int stderr_fd;
    int max_captures;
    struct gencore_plan *plan;
    int error;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!yyO!ii:prepare", &PyList_Type, &argv, &PyList_Type, &envp,
                          &directory, &run_name, &PyList_Type, &messages, &stderr_fd,
                          &max_captures)) {
        return NULL;
    }
    if (PyList_Size(messages) <= GENCORE_STAGE_LAST) {
        PyErr_SetString(PyExc_ValueError, "a message for each stage is needed");
        return NULL;
    }
    error = gencore_prepare((uint32_t)sysconf(_SC_PAGESIZE),
                            (int64_t)((uintptr_t)pthread_self() - gencore_thread_pointer()));
    if (error < 0) {
        return native_error(error);
    }
    plan = calloc(1, sizeof(*plan));
    if (!plan) {
        return PyErr_NoMemory();
    }
    plan->stderr_fd = stderr_fd;
    plan->max_captures = max_captures;
    plan->argv = copy_strings(argv);
    plan->envp = plan->argv ? copy_strings(envp) : NULL;
    plan->messages = plan->envp ? copy_strings(messages) : NULL;
    plan->directory = strdup(directory);
    plan->run_name = strdup(run_name);
    capsule = plan->messages && plan->directory && plan->run_name
                  ? PyCapsule_New(plan, NATIVE_PLAN, plan_destructor)
                  : NULL;
    if (!capsule) {
        free_plan(plan);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    return capsule;
}

/* ---- capture ---------------------------------------------------------------------- */

int
native_bytes(PyObject *object, const char **data, uint64_t *size)
{
    Py_ssize_t length;

    if (PyBytes_AsStringAndSize(object, (char **)data, &length) < 0) {
        return -1;
    }
    *size = (uint64_t)length;
    return 0;
}

PyObject *
native_result(const struct gencore_result *result)
{
    return Py_BuildValue("(iisiii)", (int)result->stage, (int)result->error, result->name,
                         (int)result->pid, (int)result->collector_pid, (int)result->snapshot_pid);
}

PyDoc_STRVAR(
    capture_doc,
    "capture(plan, text, test, core_filter, stop_threads, claim, hold_seconds, /)\n--\n\n"
    "Snapshot this process and start its collector.\n\n"
    "test: JSON of the test's name. claim: only one capture of the test with the same one is "
    "made; None: any.\n"
    "hold_seconds: keep all threads where they are until the collector has ended, at most "
    "that long.\n"
    "Returns (stage, errno, name, pid, collector_pid, snapshot_pid); stage 0 is success.\n"
    "Keeps the GIL, so that the interpreter in the snapshot is at rest.");

static PyObject *
native_capture(PyObject *module, PyObject *args)
{
    PyObject *capsule, *text;
    struct gencore_plan *plan;
    struct gencore_request request = {0};
    struct gencore_result result;
    unsigned long long core_filter;
    double hold_seconds;

    (void)module;
    if (!PyArg_ParseTuple(args, "OSsKpzd:capture", &capsule, &text, &request.test, &core_filter,
                          &request.stop_threads, &request.claim, &hold_seconds)
        || native_bytes(text, &request.text, &request.text_size) < 0) {
        return NULL;
    }
    plan = PyCapsule_GetPointer(capsule, NATIVE_PLAN);
    if (!plan) {
        return NULL;
    }
    request.core_filter = core_filter;
    request.hold_ns = (int64_t)(hold_seconds * 1e9);
    (void)gencore_capture(plan, &request, &result);
    return native_result(&result);
}

/* ---- what a capture can know ------------------------------------------------------ */

PyDoc_STRVAR(set_test_phase_doc,
             "set_test_phase(phase, attempt, /)\n--\n\n"
             "Say where in its test this process is, for captures prepared before.\n\n"
             "phase: a number of pytest_gencore.protocol.Phase.");

static PyObject *
native_set_test_phase(PyObject *module, PyObject *args)
{
    int phase, attempt;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii:set_test_phase", &phase, &attempt)) {
        return NULL;
    }
    if (phase < GENCORE_PHASE_NONE || phase > GENCORE_PHASE_TEARDOWN) {
        PyErr_SetString(PyExc_ValueError, "no such phase");
        return NULL;
    }
    gencore_set_test_phase((enum gencore_phase)phase, attempt);
    return native_none();
}

/* Put the default action back; *handler becomes what was there, NULL if that was no function. 0 or
 * -1 with errno. */
static int
take_handler(int number, void (**handler)(int))
{
    struct sigaction action, usual = {.sa_handler = SIG_DFL};

    *handler = NULL;
    if (!number) {
        return 0;
    }
    if (sigaction(number, &usual, &action) < 0) {
        return -1;
    }
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
        *handler = action.sa_handler;
    }
    return 0;
}

PyDoc_STRVAR(adopt_trace_doc, "adopt_trace(all_threads_signal, own_thread_signal, /)\n--\n\n"
                              "Take the current handler of both signals as the function that "
                              "writes Python stacks to standard\n"
                              "error, of all threads or of the calling one alone, and put the "
                              "default actions back. 0 for the\n"
                              "second: there is none. Returns whether there was a handler.");

static PyObject *
native_adopt_trace(PyObject *module, PyObject *args)
{
    int all_threads, own_thread;
    void (*function)(int), (*own_function)(int);
    struct gencore_trace trace;

    (void)module;
    if (!PyArg_ParseTuple(args, "ii:adopt_trace", &all_threads, &own_thread)) {
        return NULL;
    }
    if (take_handler(all_threads, &function) < 0 || take_handler(own_thread, &own_function) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (!function) {
        return PyBool_FromLong(0);
    }
    trace = (struct gencore_trace){
        .function = function,
        .all_threads_signal = all_threads,
        .own_thread_signal = own_function == function ? own_thread : 0,
    };
    gencore_set_trace(&trace);
    return PyBool_FromLong(1);
}

PyDoc_STRVAR(note_doc,
             "note(data, /)\n--\n\nAdd bytes to what every later snapshot tells its collector.");

static PyObject *
native_note(PyObject *module, PyObject *args)
{
    PyObject *bytes;
    const char *data;
    uint64_t size;
    int error;

    (void)module;
    if (!PyArg_ParseTuple(args, "S:note", &bytes) || native_bytes(bytes, &data, &size) < 0) {
        return NULL;
    }
    error = gencore_note(data, size);
    if (error < 0) {
        return native_error(error);
    }
    return native_none();
}

static PyMethodDef methods[] = {
    {"prepare", native_prepare, METH_VARARGS, prepare_doc},
    {"capture", native_capture, METH_VARARGS, capture_doc},
    {"set_test_phase", native_set_test_phase, METH_VARARGS, set_test_phase_doc},
    {"adopt_trace", native_adopt_trace, METH_VARARGS, adopt_trace_doc},
    {"note", native_note, METH_VARARGS, note_doc},
    {NULL, NULL, 0, NULL},
};

/* There is one engine, one set of handlers and one set of timers a process: all is static. */
static int
native_exec(PyObject *module)
{
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "captures work in the main interpreter only");
        return -1;
    }
    (void)gencore_set_test("null", 0); /* until somebody says which */
    if (PyModule_AddFunctions(module, native_probe_methods) < 0
        || PyModule_AddFunctions(module, native_peek_methods) < 0
        || PyModule_AddFunctions(module, native_raise_methods) < 0) {
        return -1;
    }
    if (PyModule_AddFunctions(module, native_cancel_methods) < 0
        || PyModule_AddFunctions(module, native_child_methods) < 0
        || PyModule_AddFunctions(module, native_worker_methods) < 0
        || PyModule_AddFunctions(module, native_thread_methods) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, native_trigger_methods);
}

/* The stable ABI of 3.10 has no other slots. Without a GIL nothing here needs it: captures exclude
 * each other, and all else is set by the thread that runs the tests. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)native_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_native", .m_doc = "The capture engine; see gencore.h.",
    .m_methods = methods,  .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
