/* worker_calls.c - what a controller has heard of its workers, and progress; for Python. */
#include "glue.h"

#include "deadlines.h"
#include "workers.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

PyDoc_STRVAR(
    note_progress_doc,
    "note_progress()\n--\n\n"
    "Say that the run goes on. Returns whether the deadline of the session has passed, and "
    "must be set again.");

static PyObject *
native_note_progress(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(gencore_note_progress());
}

PyDoc_STRVAR(add_worker_doc,
             "add_worker(name, pid, descriptor, /)\n--\n\n"
             "Keep account of a worker; returns the number that it has below.\n\n"
             "pid: 0 for one on another machine. descriptor: of pidfd_open(2), stays the caller's, "
             "-1 for none.");

static PyObject *
native_add_worker(PyObject *module, PyObject *args)
{
    const char *name;
    int pid, descriptor, worker;

    (void)module;
    if (!PyArg_ParseTuple(args, "sii:add_worker", &name, &pid, &descriptor)) {
        return NULL;
    }
    worker = gencore_add_worker(name, pid, descriptor);
    return worker < 0 ? native_error(worker) : PyLong_FromLong(worker);
}

static PyObject *
call_with_worker(PyObject *worker, void (*function)(unsigned int number))
{
    unsigned long number = PyLong_AsUnsignedLong(worker);

    if (PyErr_Occurred()) {
        return NULL;
    }
    function((unsigned int)number);
    return native_none();
}

PyDoc_STRVAR(hear_worker_doc, "hear_worker(worker, /)\n--\n\nA worker has said something.");

static PyObject *
native_hear_worker(PyObject *module, PyObject *worker)
{
    (void)module;
    return call_with_worker(worker, gencore_hear_worker);
}

/* A test with the given name, the caller's; NULL with an exception set. */
static struct gencore_worker_test *
make_test(PyObject *name)
{
    const char *text;
    uint64_t size;
    struct gencore_worker_test *test;
    struct timespec now = {0};

    if (native_bytes(name, &text, &size) < 0) {
        return NULL;
    }
    test = malloc(sizeof(*test) + (size_t)size);
    if (!test) {
        PyErr_NoMemory();
        return NULL;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    test->began_at = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    test->size = size;
    memcpy(test + 1, text, (size_t)size);
    return test;
}

PyDoc_STRVAR(
    set_worker_test_doc,
    "set_worker_test(worker, name, /)\n--\n\n"
    "A worker has said that it begins this test: UTF-8, empty: to collect tests; None: that it "
    "has ended that.");

static PyObject *
native_set_worker_test(PyObject *module, PyObject *args)
{
    unsigned int worker;
    PyObject *name;
    struct gencore_worker_test *test = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "IO:set_worker_test", &worker, &name)
        || (name != Py_None && !(test = make_test(name)))) {
        return NULL;
    }
    free((void *)gencore_set_worker_test(worker, test));
    gencore_hear_worker(worker);
    return native_none();
}

PyDoc_STRVAR(dismiss_worker_doc,
             "dismiss_worker(worker, /)\n--\n\nA worker has said its last, and should end.");

static PyObject *
native_dismiss_worker(PyObject *module, PyObject *worker)
{
    (void)module;
    return call_with_worker(worker, gencore_dismiss_worker);
}

static void
remove_worker(unsigned int number)
{
    gencore_remove_worker(number);
    free((void *)gencore_set_worker_test(number, NULL));
}

PyDoc_STRVAR(remove_worker_doc,
             "remove_worker(worker, /)\n--\n\n"
             "The process of a worker has ended, or is not looked after any more.");

static PyObject *
native_remove_worker(PyObject *module, PyObject *worker)
{
    (void)module;
    return call_with_worker(worker, remove_worker);
}

PyMethodDef native_worker_methods[] = {
    {"note_progress", native_note_progress, METH_NOARGS, note_progress_doc},
    {"add_worker", native_add_worker, METH_VARARGS, add_worker_doc},
    {"hear_worker", native_hear_worker, METH_O, hear_worker_doc},
    {"set_worker_test", native_set_worker_test, METH_VARARGS, set_worker_test_doc},
    {"dismiss_worker", native_dismiss_worker, METH_O, dismiss_worker_doc},
    {"remove_worker", native_remove_worker, METH_O, remove_worker_doc},
    {NULL, NULL, 0, NULL},
};
