/*
 * raises.c - which of all exceptions that are raised are worth a call of Python.
 *
 * sys.monitoring calls back for each of them. In C that costs little, and needs no frame: at
 * the limit of the recursion there is none left, and the error would take the place of the
 * test's.
 */
#include "glue.h"

static int
is_wanted(PyObject *what, PyObject *error)
{
    Py_ssize_t i;

    if (PyLong_Check(what)) {
        return PyLong_AsVoidPtr(what) == (void *)error;
    }
    for (i = 0; i < PyTuple_Size(what); i++) {
        if (PyType_IsSubtype(Py_TYPE(error), (PyTypeObject *)PyTuple_GetItem(what, i))) {
            return 1;
        }
    }
    return 0;
}

static PyObject *
on_raise(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *result;

    if (count != 3 || !is_wanted(PyTuple_GetItem(self, 0), args[2])) {
        return native_none();
    }
    result = PyObject_CallFunctionObjArgs(PyTuple_GetItem(self, 1), args[0], args[2], NULL);
    if (!result) {
        if (!PyErr_ExceptionMatches(PyExc_RecursionError)
            && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return NULL; /* of a signal handler, such as Ctrl-C */
        }
        PyErr_Clear(); /* it was not even called */
        return native_none();
    }
    Py_DECREF(result);
    return native_none();
}

static PyMethodDef filter = {"on_raise", (PyCFunction)(void (*)(void))on_raise, METH_FASTCALL,
                             NULL};

PyDoc_STRVAR(filter_raises_doc,
             "filter_raises(what, callback, /)\n"
             "--\n\n"
             "Return a callback for the event RAISE of sys.monitoring. It calls "
             "callback(code, exception) for exceptions of the types in the tuple what, or for "
             "the one at the address what; without room for a frame of it nothing happens.");

/* Whether is_wanted() can use it. */
static int
is_usable(PyObject *what)
{
    Py_ssize_t i;

    if (PyLong_Check(what)) {
        return PyLong_AsVoidPtr(what) != NULL;
    }
    if (!PyTuple_Check(what)) {
        return 0;
    }
    for (i = 0; i < PyTuple_Size(what); i++) {
        if (!PyType_Check(PyTuple_GetItem(what, i))) {
            return 0;
        }
    }
    return 1;
}

static PyObject *
native_filter_raises(PyObject *module, PyObject *args)
{
    PyObject *what, *callback;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO:filter_raises", &what, &callback)) {
        return NULL;
    }
    if (!is_usable(what)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "expected a tuple of types, or an address");
        }
        return NULL;
    }
    args = PyTuple_Pack(2, what, callback);
    if (!args) {
        return NULL;
    }
    what = PyCFunction_NewEx(&filter, args, NULL);
    Py_DECREF(args);
    return what;
}

PyMethodDef native_raise_methods[] = {
    {"filter_raises", native_filter_raises, METH_VARARGS, filter_raises_doc},
    {NULL, NULL, 0, NULL},
};
