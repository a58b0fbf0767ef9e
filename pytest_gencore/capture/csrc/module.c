/* module.c - the engine for Python; the only file that knows Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "gencore.h"

#define PLAN_NAME "pytest_gencore.capture._native.plan"

/* ---- plan: argv, envp and paths, copied so that nothing in Python can change them ------------------ */

static void
free_strings(char **strings)
{
    if (strings) {
        for (char **at = strings; *at; at++) {
            free(*at);
        }
        free((void *)strings);
    }
}

static void
free_plan(struct gencore_plan *plan)
{
    free_strings((char **)plan->argv);
    free_strings((char **)plan->envp);
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
             "prepare(argv, envp, directory, run_name, /)\n--\n\n"
             "Copy what collectors are started with and return it as an opaque plan.");

static PyObject *
native_prepare(PyObject *module, PyObject *args)
{
    PyObject *argv, *envp, *capsule;
    const char *directory, *run_name;
    struct gencore_plan *plan;
    int error = gencore_prepare();

    (void)module;
    if (error < 0) {
        errno = -error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (!PyArg_ParseTuple(args, "O!O!yy:prepare", &PyList_Type, &argv, &PyList_Type, &envp, &directory,
                          &run_name)) {
        return NULL;
    }
    plan = calloc(1, sizeof(*plan));
    if (!plan) {
        return PyErr_NoMemory();
    }
    plan->argv = copy_strings(argv);
    plan->envp = plan->argv ? copy_strings(envp) : NULL;
    plan->directory = strdup(directory);
    plan->run_name = strdup(run_name);
    capsule = plan->envp && plan->directory && plan->run_name
                  ? PyCapsule_New(plan, PLAN_NAME, plan_destructor)
                  : NULL;
    if (!capsule) {
        free_plan(plan);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    return capsule;
}

/* ---- capture --------------------------------------------------------------------------------------- */

PyDoc_STRVAR(capture_doc,
             "capture(plan, text, core_filter, stop_threads, /)\n--\n\n"
             "Snapshot this process and start its collector.\n\n"
             "Returns (stage, errno, name, pid, collector_pid, snapshot_pid); stage 0 is success.\n"
             "Keeps the GIL, so that the interpreter in the snapshot is at rest.");

static PyObject *
native_capture(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const char *text;
    Py_ssize_t text_size;
    unsigned long long core_filter;
    int stop_threads;
    struct gencore_plan *plan;
    struct gencore_result result;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oy#Kp:capture", &capsule, &text, &text_size, &core_filter, &stop_threads)) {
        return NULL;
    }
    plan = PyCapsule_GetPointer(capsule, PLAN_NAME);
    if (!plan) {
        return NULL;
    }
    struct gencore_request request = {
        .text = text,
        .text_size = (uint64_t)text_size,
        .core_filter = core_filter,
        .stop_threads = stop_threads,
    };
    (void)gencore_capture(plan, &request, &result);
    return Py_BuildValue("(iisiii)", (int)result.stage, (int)result.error, result.name, (int)result.pid,
                         (int)result.collector_pid, (int)result.snapshot_pid);
}

static PyMethodDef native_methods[] = {
    {"prepare", native_prepare, METH_VARARGS, prepare_doc},
    {"capture", native_capture, METH_VARARGS, capture_doc},
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
