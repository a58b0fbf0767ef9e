/* glue.h - what the files that know Python share: module.c, triggers.c. */
#ifndef GENCORE_GLUE_H
#define GENCORE_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "gencore.h"

/* Name of a capsule with a struct gencore_plan. */
#define NATIVE_PLAN "pytest_gencore.capture._native.plan"

/* Set OSError from a -errno; returns NULL. */
PyObject *native_error(int error);

/* A new reference: the tuple that pytest_gencore.protocol.CaptureResult is made of. */
PyObject *native_result(const struct gencore_result *result);

/* Of triggers.c; ended by an empty one. */
extern PyMethodDef native_trigger_methods[];

#endif
