/* thread_calls.c - captures by a thread that does not run the tests, for Python. */
#include "glue.h"

#include "place.h"

PyDoc_STRVAR(
    set_test_thread_doc,
    "set_test_thread()\n--\n\nSay that the calling thread is the one that runs the tests.");

static PyObject *
native_set_test_thread(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_set_test_thread();
    return native_none();
}

PyDoc_STRVAR(
    capture_prepared_doc,
    "capture_prepared(standby, /)\n--\n\n"
    "Capture now, whichever test runs. Returns what capture does, and keeps the GIL, too.");

static PyObject *
native_capture_prepared(PyObject *module, PyObject *capsule)
{
    const struct gencore_standby *standby;
    struct gencore_request request;
    struct gencore_result result;

    (void)module;
    if (native_standby(capsule, &standby) < 0) {
        return NULL;
    }
    if (!standby) {
        PyErr_SetString(PyExc_ValueError, "nothing to capture with");
        return NULL;
    }
    request = standby->request;
    request.test = gencore_find_place().test;
    (void)gencore_capture(standby->plan, &request, &result);
    return native_result(&result);
}

PyMethodDef native_thread_methods[] = {
    {"set_test_thread", native_set_test_thread, METH_NOARGS, set_test_thread_doc},
    {"capture_prepared", native_capture_prepared, METH_O, capture_prepared_doc},
    {NULL, NULL, 0, NULL},
};
