/* module.c - the engine for Python; the only file that knows Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "gencore.h"

#define PLAN_NAME "pytest_gencore.capture._native.plan"
#define STANDBY_NAME "pytest_gencore.capture._native.standby"

/* ---- plan: argv, envp and paths, copied so that nothing in Python can change them ------------------ */

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
    struct gencore_plan *plan = PyCapsule_GetPointer(capsule, PLAN_NAME);

    if (plan) {
        free_plan(plan);
    }
}

/* A list of bytes as an array ended by NULL; NULL with an exception set on error. */
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
        const char *text = PyBytes_AsString(PyList_GetItem(list, i));

        if (!text || !(strings[i] = strdup(text))) {
            free_strings(strings);
            if (!PyErr_Occurred()) {
                PyErr_NoMemory();
            }
            return NULL;
        }
    }
    return strings;
}

PyDoc_STRVAR(prepare_doc,
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
    int error = gencore_prepare();

    (void)module;
    if (error < 0) {
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (!PyArg_ParseTuple(args, "O!O!yyO!ii:prepare", &PyList_Type, &argv, &PyList_Type, &envp, &directory,
                          &run_name, &PyList_Type, &messages, &stderr_fd, &max_captures)) {
        return NULL;
    }
    if (PyList_Size(messages) <= GENCORE_STAGE_FULL) {
        PyErr_SetString(PyExc_ValueError, "a message for each stage is needed");
        return NULL;
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
                  ? PyCapsule_New(plan, PLAN_NAME, plan_destructor)
                  : NULL;
    if (!capsule) {
        free_plan(plan);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    return capsule;
}

/* ---- capture --------------------------------------------------------------------------------------- */

static PyObject *
make_result(const struct gencore_result *result)
{
    return Py_BuildValue("(iisiii)", (int)result->stage, (int)result->error, result->name, (int)result->pid,
                         (int)result->collector_pid, (int)result->snapshot_pid);
}

PyDoc_STRVAR(capture_doc,
             "capture(plan, text, core_filter, stop_threads, claim, hold_seconds, /)\n--\n\n"
             "Snapshot this process and start its collector.\n\n"
             "hold_seconds: keep all threads where they are until the collector has ended, at most that long.\n"
             "Returns (stage, errno, name, pid, collector_pid, snapshot_pid); stage 0 is success.\n"
             "Keeps the GIL, so that the interpreter in the snapshot is at rest.");

static PyObject *
native_capture(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    struct gencore_plan *plan;
    struct gencore_request request = {0};
    struct gencore_result result;
    Py_ssize_t text_size;
    unsigned long long core_filter;
    double hold_seconds;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oy#Kpzd:capture", &capsule, &request.text, &text_size, &core_filter,
                          &request.stop_threads, &request.claim, &hold_seconds)) {
        return NULL;
    }
    plan = PyCapsule_GetPointer(capsule, PLAN_NAME);
    if (!plan) {
        return NULL;
    }
    request.text_size = (uint64_t)text_size;
    request.core_filter = core_filter;
    request.hold_ns = (int64_t)(hold_seconds * 1e9);
    (void)gencore_capture(plan, &request, &result);
    return make_result(&result);
}

/* ---- captures by signal handlers ------------------------------------------------------------------- */

/* Freed only when no handler can see it any more. */
struct standby {
    struct gencore_standby native; /* first: a pointer to it is one to us */
    PyObject *plan;
    char *text;
    char *claim;
};

/* What handlers use: references of ours. */
static PyObject *crash_standby, *deadline_standby[GENCORE_DEADLINES];

static void
standby_destructor(PyObject *capsule)
{
    struct standby *standby = PyCapsule_GetPointer(capsule, STANDBY_NAME);

    if (standby) {
        Py_XDECREF(standby->plan);
        free(standby->text);
        free(standby->claim);
        free(standby);
    }
}

PyDoc_STRVAR(prepare_standby_doc,
             "prepare_standby(plan, text, core_filter, stop_threads, claim, hand_on_stderr, await_seconds, /)\n"
             "--\n\n"
             "Copy what a signal handler captures with and return it as an opaque object.");

static PyObject *
native_prepare_standby(PyObject *module, PyObject *args)
{
    PyObject *plan, *capsule = NULL;
    const char *text, *claim;
    Py_ssize_t text_size;
    unsigned long long core_filter;
    int stop_threads, hand_on_stderr;
    double await_seconds;
    struct standby *standby;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oy#Kpzpd:prepare_standby", &plan, &text, &text_size, &core_filter,
                          &stop_threads, &claim, &hand_on_stderr, &await_seconds)
        || !PyCapsule_GetPointer(plan, PLAN_NAME)) {
        return NULL;
    }
    standby = calloc(1, sizeof(*standby));
    if (standby) {
        standby->text = malloc((size_t)text_size + 1);
        standby->claim = claim ? strdup(claim) : NULL;
    }
    if (standby && standby->text && (!claim || standby->claim)) {
        memcpy(standby->text, text, (size_t)text_size);
        standby->native.plan = PyCapsule_GetPointer(plan, PLAN_NAME);
        standby->native.request = (struct gencore_request){
            .text = standby->text,
            .text_size = (uint64_t)text_size,
            .core_filter = core_filter,
            .stop_threads = stop_threads,
            .hand_on_stderr = hand_on_stderr,
            .claim = standby->claim,
            .hold_ns = (int64_t)(await_seconds * 1e9),
        };
        capsule = PyCapsule_New(standby, STANDBY_NAME, standby_destructor);
    }
    if (!capsule) {
        if (standby) {
            free(standby->text);
            free(standby->claim);
            free(standby);
        }
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_INCREF(plan);
    standby->plan = plan;
    return capsule;
}

/* The standby in a capsule, NULL for None; -1 with an exception set for anything else. */
static int
get_standby(PyObject *capsule, const struct gencore_standby **standby)
{
    *standby = capsule == Py_None ? NULL : PyCapsule_GetPointer(capsule, STANDBY_NAME);
    return *standby || capsule == Py_None ? 0 : -1;
}

static void
hold(PyObject **held, PyObject *capsule)
{
    PyObject *before = *held;

    Py_INCREF(capsule);
    *held = capsule;
    Py_XDECREF(before);
}

PyDoc_STRVAR(set_crash_standby_doc, "set_crash_standby(standby, /)\n--\n\n"
                                    "Say what the next crash is captured with; None: it is not.");

static PyObject *
native_set_crash_standby(PyObject *module, PyObject *capsule)
{
    const struct gencore_standby *standby;

    (void)module;
    if (get_standby(capsule, &standby) < 0) {
        return NULL;
    }
    if (!gencore_set_crash_standby(standby)) {
        Py_XINCREF(crash_standby); /* a handler may be reading it: never freed */
    }
    hold(&crash_standby, capsule);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_crashes_doc, "watch_crashes()\n--\n\n"
                                "Put our handlers before those of fatal signals; returns how many are first.");

static PyObject *
native_watch_crashes(PyObject *module, PyObject *unused)
{
    int count = gencore_watch_crashes();

    (void)module;
    (void)unused;
    if (count < 0) {
        errno = -count;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(count);
}

PyDoc_STRVAR(unwatch_crashes_doc, "unwatch_crashes()\n--\n\nTake our handlers out again.");

static PyObject *
native_unwatch_crashes(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_unwatch_crashes();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(keep_actions_doc, "keep_actions()\n--\n\n"
                               "Remember the actions of fatal signals, for return_actions.");

static PyObject *
native_keep_actions(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_keep_actions();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(go_below_doc, "go_below(into, /)\n--\n\n"
                           "While faulthandler is disabled: put our handlers where its will be, or take them out.");

static PyObject *
native_go_below(PyObject *module, PyObject *into)
{
    int is_into = PyObject_IsTrue(into);

    (void)module;
    if (is_into < 0) {
        return NULL;
    }
    gencore_go_below(is_into);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(return_actions_doc, "return_actions()\n--\n\n"
                                 "Put back what keep_actions found, where faulthandler was not the first.");

static PyObject *
native_return_actions(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_return_actions();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_moment_doc, "set_moment(phase, attempt, /)\n--\n\n"
                             "Say where in its test this process is, for captures prepared before.");

static PyObject *
native_set_moment(PyObject *module, PyObject *args)
{
    const char *phase;
    int attempt;

    (void)module;
    if (!PyArg_ParseTuple(args, "si:set_moment", &phase, &attempt)) {
        return NULL;
    }
    gencore_set_moment(phase, attempt);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(adopt_trace_doc,
             "adopt_trace(signal, /)\n--\n\n"
             "Take the current handler of a signal as the function that writes all Python stacks to standard\n"
             "error, and put the default action back. Returns whether there was one.");

static PyObject *
native_adopt_trace(PyObject *module, PyObject *args)
{
    struct sigaction action, usual = {.sa_handler = SIG_DFL};
    int number;

    (void)module;
    if (!PyArg_ParseTuple(args, "i:adopt_trace", &number)) {
        return NULL;
    }
    if (sigaction(number, &usual, &action) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
        Py_RETURN_FALSE;
    }
    gencore_set_trace(action.sa_handler, number);
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(set_deadline_doc,
             "set_deadline(which, seconds, standby, exits, /)\n--\n\n"
             "Capture this process in so many seconds, on this thread; exits: then end it with status 1.");

static PyObject *
native_set_deadline(PyObject *module, PyObject *args)
{
    unsigned int which;
    double seconds;
    int exits, error;
    PyObject *capsule;
    const struct gencore_standby *standby;

    (void)module;
    if (!PyArg_ParseTuple(args, "IdOp:set_deadline", &which, &seconds, &capsule, &exits)
        || get_standby(capsule, &standby) < 0) {
        return NULL;
    }
    if (which >= GENCORE_DEADLINES || !standby || !(seconds < 1e9)) {
        PyErr_SetString(PyExc_ValueError, "no such deadline");
        return NULL;
    }
    error = gencore_set_deadline(which, (int64_t)(seconds * 1e9), standby, exits);
    hold(&deadline_standby[which], capsule);
    if (error < 0) {
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
make_fired(int fired, const struct gencore_result *result)
{
    PyObject *tuple, *made;

    if (fired == GENCORE_NOT_FIRED) {
        Py_RETURN_NONE;
    }
    tuple = make_result(result);
    made = tuple ? Py_BuildValue("(NO)", PyBool_FromLong(fired == GENCORE_FIRED), tuple) : NULL;
    Py_XDECREF(tuple);
    return made;
}

PyDoc_STRVAR(cancel_deadline_doc,
             "cancel_deadline(which, /)\n--\n\n"
             "Returns what it came to: None, or (captured, result of capture); captured is false if a debugger\n"
             "was attached.");

static PyObject *
native_cancel_deadline(PyObject *module, PyObject *args)
{
    struct gencore_result result;
    unsigned int which;

    (void)module;
    if (!PyArg_ParseTuple(args, "I:cancel_deadline", &which)) {
        return NULL;
    }
    if (which >= GENCORE_DEADLINES) {
        PyErr_SetString(PyExc_ValueError, "no such deadline");
        return NULL;
    }
    return make_fired(gencore_cancel_deadline(which, &result), &result);
}

PyDoc_STRVAR(release_deadlines_doc, "release_deadlines()\n--\n\nCancel all, and give their signals back.");

static PyObject *
native_release_deadlines(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_release_deadlines();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(deadline_fired_doc, "deadline_fired(which, /)\n--\n\nAs cancel_deadline, without cancelling it.");

static PyObject *
native_deadline_fired(PyObject *module, PyObject *args)
{
    struct gencore_result result;
    unsigned int which;

    (void)module;
    if (!PyArg_ParseTuple(args, "I:deadline_fired", &which)) {
        return NULL;
    }
    if (which >= GENCORE_DEADLINES) {
        PyErr_SetString(PyExc_ValueError, "no such deadline");
        return NULL;
    }
    return make_fired(gencore_deadline_fired(which, &result), &result);
}

PyDoc_STRVAR(note_doc, "note(data, /)\n--\n\nAdd bytes to what every later snapshot tells its collector.");

static PyObject *
native_note(PyObject *module, PyObject *args)
{
    const char *data;
    Py_ssize_t size;
    int error;

    (void)module;
    if (!PyArg_ParseTuple(args, "y#:note", &data, &size)) {
        return NULL;
    }
    error = gencore_note(data, (uint64_t)size);
    if (error < 0) {
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyMethodDef native_methods[] = {
    {"prepare", native_prepare, METH_VARARGS, prepare_doc},
    {"capture", native_capture, METH_VARARGS, capture_doc},
    {"prepare_standby", native_prepare_standby, METH_VARARGS, prepare_standby_doc},
    {"set_crash_standby", native_set_crash_standby, METH_O, set_crash_standby_doc},
    {"watch_crashes", native_watch_crashes, METH_NOARGS, watch_crashes_doc},
    {"unwatch_crashes", native_unwatch_crashes, METH_NOARGS, unwatch_crashes_doc},
    {"keep_actions", native_keep_actions, METH_NOARGS, keep_actions_doc},
    {"go_below", native_go_below, METH_O, go_below_doc},
    {"return_actions", native_return_actions, METH_NOARGS, return_actions_doc},
    {"set_deadline", native_set_deadline, METH_VARARGS, set_deadline_doc},
    {"cancel_deadline", native_cancel_deadline, METH_VARARGS, cancel_deadline_doc},
    {"release_deadlines", native_release_deadlines, METH_NOARGS, release_deadlines_doc},
    {"deadline_fired", native_deadline_fired, METH_VARARGS, deadline_fired_doc},
    {"set_moment", native_set_moment, METH_VARARGS, set_moment_doc},
    {"adopt_trace", native_adopt_trace, METH_VARARGS, adopt_trace_doc},
    {"note", native_note, METH_VARARGS, note_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot native_slots[] = {
    {0, NULL},
};

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The capture engine; see gencore.h.",
    .m_methods = native_methods,
    .m_slots = native_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&native_module);
}
