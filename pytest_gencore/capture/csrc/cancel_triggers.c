/* cancel_triggers.c - handlers of the signals with which a run is cancelled, for Python. */
#include "glue.h"

#include "cancels.h"

/* What handlers use: references of ours. */
static PyObject *end_standby, *interrupt_standby;

PyDoc_STRVAR(set_cancel_standbys_doc,
             "set_cancel_standbys(end, interrupt, /)\n--\n\n"
             "Say what is captured with at SIGTERM and SIGHUP, and at SIGINT; None: nothing is.");

static PyObject *
native_set_cancel_standbys(PyObject *module, PyObject *args)
{
    PyObject *end_capsule, *interrupt_capsule;
    const struct gencore_standby *end, *interrupt;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO:set_cancel_standbys", &end_capsule, &interrupt_capsule)
        || native_standby(end_capsule, &end) < 0
        || native_standby(interrupt_capsule, &interrupt) < 0) {
        return NULL;
    }
    if (gencore_set_cancel_standbys(end, interrupt)) {
        Py_XINCREF(end_standby); /* a handler may be reading them: never freed */
        Py_XINCREF(interrupt_standby);
    }
    native_hold(&end_standby, end_capsule);
    native_hold(&interrupt_standby, interrupt_capsule);
    return native_none();
}

PyDoc_STRVAR(watch_cancels_doc,
             "watch_cancels(with_interrupt, /)\n--\n\n"
             "Put our handlers before the default action of SIGTERM and SIGHUP, and before the "
             "current handler of\n"
             "SIGINT if with_interrupt is true. Returns whether SIGINT has a handler that is not "
             "ours.");

static PyObject *
native_watch_cancels(PyObject *module, PyObject *with_interrupt)
{
    (void)module;
    return PyBool_FromLong(gencore_watch_cancels(PyObject_IsTrue(with_interrupt) == 1));
}

PyDoc_STRVAR(unwatch_cancels_doc, "unwatch_cancels()\n--\n\nTake our handlers out again.");

static PyObject *
native_unwatch_cancels(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_unwatch_cancels();
    return native_none();
}

PyDoc_STRVAR(capture_interrupt_doc, "capture_interrupt()\n--\n\n"
                                    "Capture as at SIGINT; for a handler that Python has called.");

static PyObject *
native_capture_interrupt(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_capture_interrupt();
    return native_none();
}

PyDoc_STRVAR(accept_cancels_doc,
             "accept_cancels(number, /)\n--\n\n"
             "Capture when a controller passes a cancel on with this real-time signal; OSError: it "
             "is not free.");

static PyObject *
native_accept_cancels(PyObject *module, PyObject *number)
{
    long value = PyLong_AsLong(number);
    int error;

    (void)module;
    if (PyErr_Occurred()) {
        return NULL;
    }
    error = value > GENCORE_SIGNAL_COUNT / 2 && value <= GENCORE_SIGNAL_COUNT
                ? gencore_accept_cancels((int)value)
                : -EINVAL;
    return error < 0 ? native_error(error) : native_none();
}

PyDoc_STRVAR(set_cancel_workers_doc,
             "set_cancel_workers(number, descriptors, /)\n--\n\n"
             "Pass cancels on with this signal to the processes of a list of descriptors of "
             "pidfd_open(2), which\n"
             "must have accepted it.");

static PyObject *
native_set_cancel_workers(PyObject *module, PyObject *args)
{
    int number, descriptors[GENCORE_WORKERS];
    unsigned int count = 0;
    PyObject *list;

    (void)module;
    if (!PyArg_ParseTuple(args, "iO!:set_cancel_workers", &number, &PyList_Type, &list)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(list) && count < GENCORE_WORKERS; i++) {
        long descriptor = PyLong_AsLong(PyList_GetItem(list, i));

        if (PyErr_Occurred()) {
            return NULL;
        }
        descriptors[count++] = (int)descriptor;
    }
    gencore_set_cancel_workers(number, descriptors, count);
    return native_none();
}

PyMethodDef native_cancel_methods[] = {
    {"set_cancel_standbys", native_set_cancel_standbys, METH_VARARGS, set_cancel_standbys_doc},
    {"watch_cancels", native_watch_cancels, METH_O, watch_cancels_doc},
    {"unwatch_cancels", native_unwatch_cancels, METH_NOARGS, unwatch_cancels_doc},
    {"capture_interrupt", native_capture_interrupt, METH_NOARGS, capture_interrupt_doc},
    {"accept_cancels", native_accept_cancels, METH_O, accept_cancels_doc},
    {"set_cancel_workers", native_set_cancel_workers, METH_VARARGS, set_cancel_workers_doc},
    {NULL, NULL, 0, NULL},
};
