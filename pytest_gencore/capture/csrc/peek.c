/*
 * peek.c - Python glue: memory and objects by their addresses, for Python in a copy of the
 * snapshot.
 */
#include "glue.h"

PyDoc_STRVAR(peek_doc, "peek(address, size, /)\n--\n\n"
                       "Return bytes of memory, None where there is none: at most 64 KiB. In a "
                       "copy of a snapshot, or in a test.");

static PyObject *
native_peek(PyObject *module, PyObject *args)
{
    unsigned long long address;
    Py_ssize_t size;
    PyObject *bytes;
    char *data;

    (void)module;
    if (!PyArg_ParseTuple(args, "Kn:peek", &address, &size)) {
        return NULL;
    }
    if (size <= 0 || size > GENCORE_PEEK_LIMIT) {
        return native_none();
    }
    bytes = PyBytes_FromStringAndSize(NULL, size);
    if (!bytes) {
        return NULL;
    }
    data = PyBytes_AsString(bytes);
    if (gencore_copy_memory(data, (const void *)(uintptr_t)address, (size_t)size) != (size_t)size) {
        Py_DECREF(bytes);
        return native_none();
    }
    return bytes;
}

PyDoc_STRVAR(object_at_doc,
             "object_at(address, /)\n--\n\n"
             "Return the object at an address, which must be one. In a copy of a snapshot, or in a "
             "test.");

static PyObject *
native_object_at(PyObject *module, PyObject *args)
{
    unsigned long long address;
    PyObject *object;

    (void)module;
    if (!PyArg_ParseTuple(args, "K:object_at", &address)) {
        return NULL;
    }
    object = (PyObject *)(uintptr_t)address;
    Py_INCREF(object);
    return object;
}

PyMethodDef native_peek_methods[] = {
    {"peek", native_peek, METH_VARARGS, peek_doc},
    {"object_at", native_object_at, METH_VARARGS, object_at_doc},
    {NULL, NULL, 0, NULL},
};
