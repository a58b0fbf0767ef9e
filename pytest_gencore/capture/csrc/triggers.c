/* triggers.c - handlers of crashes and deadlines, for Python. */
#include "glue.h"

#include "cancels.h"
#include "deadlines.h"
#include "forked.h"
#include "place.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STANDBY_NAME "pytest_gencore.capture._native.standby"

/* ---- standbys: what handlers capture with ----------------------------------------- */

/* Freed only when no handler can see it any more. */
struct standby {
    struct gencore_standby native; /* first: a pointer to it is one to us */
    PyObject *plan;
    char *text;
    char *claim;
};

/* What handlers use: references of ours. */
static PyObject *test_name, *crash_standby, *deadline_standby[GENCORE_DEADLINES];

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
             "prepare_standby(plan, text, core_filter, stop_threads, claim, hand_on_stderr, "
             "await_seconds, is_only_told, /)\n"
             "--\n\n"
             "Copy what a signal handler captures with, whichever test runs, and return it as an "
             "opaque object.");

static PyObject *
native_prepare_standby(PyObject *module, PyObject *args)
{
    PyObject *plan, *bytes, *capsule = NULL;
    const char *text, *claim;
    uint64_t text_size;
    unsigned long long core_filter;
    int stop_threads, hand_on_stderr, is_only_told;
    double await_seconds;
    struct standby *standby;

    (void)module;
    if (!PyArg_ParseTuple(args, "OSKpzpdp:prepare_standby", &plan, &bytes, &core_filter,
                          &stop_threads, &claim, &hand_on_stderr, &await_seconds, &is_only_told)
        || native_bytes(bytes, &text, &text_size) < 0 || !PyCapsule_GetPointer(plan, NATIVE_PLAN)) {
        return NULL;
    }
    standby = calloc(1, sizeof(*standby));
    if (standby) {
        standby->text = malloc((size_t)text_size + 1);
        standby->claim = claim ? strdup(claim) : NULL;
    }
    if (standby && standby->text && (!claim || standby->claim)) {
        memcpy(standby->text, text, (size_t)text_size);
        standby->native.plan = PyCapsule_GetPointer(plan, NATIVE_PLAN);
        standby->native.request = (struct gencore_request){
            .text = standby->text,
            .text_size = text_size,
            .core_filter = core_filter,
            .stop_threads = stop_threads,
            .hand_on_stderr = hand_on_stderr,
            .is_only_told = is_only_told,
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

int
native_standby(PyObject *capsule, const struct gencore_standby **standby)
{
    *standby = capsule == Py_None ? NULL : PyCapsule_GetPointer(capsule, STANDBY_NAME);
    return *standby || capsule == Py_None ? 0 : -1;
}

void
native_hold(PyObject **held, PyObject *capsule)
{
    PyObject *before = *held;

    Py_INCREF(capsule);
    *held = capsule;
    Py_XDECREF(before);
}

/* The clock is read by libc, which needs no system call for it. */
static int64_t
now_ns(clockid_t clock)
{
    struct timespec now = {0};

    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static PyObject *
hold_test(PyObject *test, int is_read)
{
    if (is_read) {
        Py_XINCREF(test_name); /* a handler may be reading it: never freed */
    }
    native_hold(&test_name, test);
    return native_none();
}

PyDoc_STRVAR(set_test_doc, "set_test(test, /)\n--\n\n"
                           "Say which test runs: JSON of its name. No phase of it has begun.");

static PyObject *
native_set_test(PyObject *module, PyObject *test)
{
    const char *text = PyUnicode_AsUTF8AndSize(test, NULL);

    (void)module;
    return text ? hold_test(test, gencore_set_test(text, now_ns(CLOCK_MONOTONIC))) : NULL;
}

PyDoc_STRVAR(begin_test_doc, "begin_test(test, /)\n--\n\n"
                             "As set_test, of a test whose first setup begins: it is listed.");

static PyObject *
native_begin_test(PyObject *module, PyObject *test)
{
    const char *text = PyUnicode_AsUTF8AndSize(test, NULL);
    int64_t now = now_ns(CLOCK_MONOTONIC), wall = now_ns(CLOCK_REALTIME);

    (void)module;
    return text ? hold_test(test, gencore_begin_test(text, now, wall)) : NULL;
}

PyDoc_STRVAR(list_tests_doc, "list_tests(fd, /)\n--\n\n"
                             "List tests that begin in this file, which stays the caller's; -1: in "
                             "none.");

static PyObject *
native_list_tests(PyObject *module, PyObject *number)
{
    long fd = PyLong_AsLong(number);

    (void)module;
    if (PyErr_Occurred()) {
        return NULL;
    }
    gencore_list_tests((int)fd);
    return native_none();
}

PyDoc_STRVAR(set_last_test_doc,
             "set_last_test(test, /)\n--\n\n"
             "As set_test, until the process ends: what is given may go before.");

static PyObject *
native_set_last_test(PyObject *module, PyObject *test)
{
    const char *text = PyUnicode_AsUTF8AndSize(test, NULL);
    char *copy = text ? strdup(text) : NULL;

    (void)module;
    if (!copy) {
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    (void)gencore_set_test(copy, now_ns(CLOCK_MONOTONIC));
    return native_none();
}

PyDoc_STRVAR(set_crash_standby_doc, "set_crash_standby(standby, /)\n--\n\n"
                                    "Say what the next crash is captured with; None: it is not.");

static PyObject *
native_set_crash_standby(PyObject *module, PyObject *capsule)
{
    const struct gencore_standby *standby;

    (void)module;
    if (native_standby(capsule, &standby) < 0) {
        return NULL;
    }
    if (gencore_set_crash_standby(standby)) {
        Py_XINCREF(crash_standby); /* a handler may be reading it: never freed */
    }
    native_hold(&crash_standby, capsule);
    return native_none();
}

PyDoc_STRVAR(restore_handlers_doc,
             "restore_handlers(answers, /)\n--\n\n"
             "As watch_crashes, some signals in turns, and watch_cancels(False): each test may "
             "have\n"
             "displaced handlers. Children by fork tell collectors where they stand, if a signal "
             "is free\n"
             "for that. answers: the path of an answer, without the child's id at its end; None: "
             "they do not.");

static PyObject *
native_restore_handlers(PyObject *module, PyObject *answers)
{
    const char *path = NULL;
    uint64_t size;

    (void)module;
    if (answers != Py_None && native_bytes(answers, &path, &size) < 0) {
        return NULL;
    }
    gencore_rewatch_crashes();
    if (path) {
        (void)gencore_arm_forked(path);
    }
    return PyBool_FromLong(gencore_watch_cancels(0));
}

/* ---- crashes ---------------------------------------------------------------------- */

PyDoc_STRVAR(watch_crashes_doc,
             "watch_crashes()\n--\n\n"
             "Put our handlers before those of fatal signals; returns how many are first.");

static PyObject *
native_watch_crashes(PyObject *module, PyObject *unused)
{
    int count = gencore_watch_crashes();

    (void)module;
    (void)unused;
    return count < 0 ? native_error(count) : PyLong_FromLong(count);
}

/* A function without arguments and result. */
#define SIMPLE(name, documentation)                                    \
    PyDoc_STRVAR(name##_doc, #name "()\n--\n\n" documentation);        \
    static PyObject *native_##name(PyObject *module, PyObject *unused) \
    {                                                                  \
        (void)module;                                                  \
        (void)unused;                                                  \
        gencore_##name();                                              \
        return native_none();                                          \
    }

SIMPLE(unwatch_crashes, "Take our handlers out again.")
PyDoc_STRVAR(is_crashing_doc, "is_crashing()\n--\n\n"
                              "Say whether a fatal signal has come: the process is about to end.");

static PyObject *
native_is_crashing(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(gencore_is_crashing());
}

SIMPLE(forget_handlers, "Let the next watch_crashes be the first one again.")
SIMPLE(save_actions, "Remember the actions of fatal signals, for restore_actions.")
SIMPLE(install_under_faulthandler,
       "While faulthandler is disabled: put our handlers where its will be.")
SIMPLE(remove_under_faulthandler, "While faulthandler is disabled: take them out again.")
SIMPLE(restore_actions, "Put back what save_actions found, where faulthandler was not the first.")

/* ---- deadlines -------------------------------------------------------------------- */

SIMPLE(release_deadlines, "Cancel all, and give their signals back.")

PyDoc_STRVAR(
    set_deadline_doc,
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
        || native_standby(capsule, &standby) < 0) {
        return NULL;
    }
    if (which >= GENCORE_DEADLINES || !standby || !(seconds < 1e9)) {
        PyErr_SetString(PyExc_ValueError, "no such deadline");
        return NULL;
    }
    error = gencore_set_deadline(which, (int64_t)(seconds * 1e9), standby, exits);
    native_hold(&deadline_standby[which], capsule);
    if (error < 0) {
        return native_error(error);
    }
    return native_none();
}

static PyObject *
make_fired(int fired, const struct gencore_result *result)
{
    PyObject *tuple, *made;

    if (fired == GENCORE_NOT_FIRED) {
        return native_none();
    }
    tuple = native_result(result);
    made = tuple ? Py_BuildValue("(NO)", PyBool_FromLong(fired == GENCORE_FIRED), tuple) : NULL;
    Py_XDECREF(tuple);
    return made;
}

typedef int (*ask_deadline)(unsigned int which, struct gencore_result *result);

static PyObject *
describe_deadline(PyObject *number, ask_deadline ask)
{
    struct gencore_result result;
    unsigned long which = PyLong_AsUnsignedLong(number);

    if (PyErr_Occurred()) {
        return NULL;
    }
    if (which >= GENCORE_DEADLINES) {
        PyErr_SetString(PyExc_ValueError, "no such deadline");
        return NULL;
    }
    return make_fired(ask((unsigned int)which, &result), &result);
}

PyDoc_STRVAR(cancel_deadline_doc, "cancel_deadline(which, /)\n--\n\n"
                                  "Returns what it came to: None, or (captured, result of "
                                  "capture); captured is false if a debugger\n"
                                  "was attached.");

static PyObject *
native_cancel_deadline(PyObject *module, PyObject *which)
{
    (void)module;
    return describe_deadline(which, gencore_cancel_deadline);
}

PyDoc_STRVAR(deadline_fired_doc,
             "deadline_fired(which, /)\n--\n\nAs cancel_deadline, without cancelling it.");

static PyObject *
native_deadline_fired(PyObject *module, PyObject *which)
{
    (void)module;
    return describe_deadline(which, gencore_deadline_fired);
}

PyMethodDef native_trigger_methods[] = {
    {"prepare_standby", native_prepare_standby, METH_VARARGS, prepare_standby_doc},
    {"set_test", native_set_test, METH_O, set_test_doc},
    {"begin_test", native_begin_test, METH_O, begin_test_doc},
    {"restore_handlers", native_restore_handlers, METH_O, restore_handlers_doc},
    {"list_tests", native_list_tests, METH_O, list_tests_doc},
    {"set_last_test", native_set_last_test, METH_O, set_last_test_doc},
    {"set_crash_standby", native_set_crash_standby, METH_O, set_crash_standby_doc},
    {"watch_crashes", native_watch_crashes, METH_NOARGS, watch_crashes_doc},
    {"unwatch_crashes", native_unwatch_crashes, METH_NOARGS, unwatch_crashes_doc},
    {"forget_handlers", native_forget_handlers, METH_NOARGS, forget_handlers_doc},
    {"is_crashing", native_is_crashing, METH_NOARGS, is_crashing_doc},
    {"save_actions", native_save_actions, METH_NOARGS, save_actions_doc},
    {"install_under_faulthandler", native_install_under_faulthandler, METH_NOARGS,
     install_under_faulthandler_doc},
    {"remove_under_faulthandler", native_remove_under_faulthandler, METH_NOARGS,
     remove_under_faulthandler_doc},
    {"restore_actions", native_restore_actions, METH_NOARGS, restore_actions_doc},
    {"set_deadline", native_set_deadline, METH_VARARGS, set_deadline_doc},
    {"cancel_deadline", native_cancel_deadline, METH_O, cancel_deadline_doc},
    {"deadline_fired", native_deadline_fired, METH_O, deadline_fired_doc},
    {"release_deadlines", native_release_deadlines, METH_NOARGS, release_deadlines_doc},
    {NULL, NULL, 0, NULL},
};
