/* child_triggers.c - children that tell where they stand, and capture themselves, for Python. */
#include "glue.h"

#include "forked.h"

PyDoc_STRVAR(release_forked_doc,
             "release_forked()\n--\n\nGive the signal of children by fork back.");

static PyObject *
native_release_forked(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    gencore_release_forked();
    return native_none();
}

PyDoc_STRVAR(forked_signal_doc,
             "forked_signal()\n--\n\nThat of children by fork, 0 if there is none.");

static PyObject *
native_forked_signal(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(gencore_forked_signal());
}

PyDoc_STRVAR(arm_spawned_doc,
             "arm_spawned(answers, signal, /)\n--\n\n"
             "Let this process tell collectors where it stands, as restore_handlers children by "
             "fork; returns whether\n"
             "the signal was free.");

static PyObject *
native_arm_spawned(PyObject *module, PyObject *args)
{
    const char *path;
    int signal;

    (void)module;
    if (!PyArg_ParseTuple(args, "yi:arm_spawned", &path, &signal)) {
        return NULL;
    }
    return PyBool_FromLong(gencore_arm_spawned(path, signal) == 0);
}

PyDoc_STRVAR(set_child_standbys_doc,
             "set_child_standbys(crash, dump, /)\n--\n\n"
             "Say what children capture themselves with, when they crash and when a collector "
             "asks for it;\n"
             "None: not. They are never freed.");

static PyObject *
native_set_child_standbys(PyObject *module, PyObject *args)
{
    PyObject *crash_capsule, *dump_capsule;
    const struct gencore_standby *crash, *dump;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO:set_child_standbys", &crash_capsule, &dump_capsule)
        || native_standby(crash_capsule, &crash) < 0 || native_standby(dump_capsule, &dump) < 0) {
        return NULL;
    }
    Py_INCREF(crash_capsule);
    Py_INCREF(dump_capsule);
    gencore_set_child_standby(crash);
    gencore_set_dump_standby(dump);
    return native_none();
}

PyMethodDef native_child_methods[] = {
    {"release_forked", native_release_forked, METH_NOARGS, release_forked_doc},
    {"forked_signal", native_forked_signal, METH_NOARGS, forked_signal_doc},
    {"arm_spawned", native_arm_spawned, METH_VARARGS, arm_spawned_doc},
    {"set_child_standbys", native_set_child_standbys, METH_VARARGS, set_child_standbys_doc},
    {NULL, NULL, 0, NULL},
};
