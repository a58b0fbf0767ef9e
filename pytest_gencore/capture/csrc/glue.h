/* glue.h - what the files that know Python share: module.c, triggers.c. */
#ifndef GENCORE_GLUE_H
#define GENCORE_GLUE_H

/*
 * No format with "#": what it needs of the macro PY_SSIZE_T_CLEAN changed in 3.13, so that an
 * extension built with 3.13 or later raises SystemError on those before.
 */
#include <Python.h>

#include "gencore.h"

/* Name of a capsule with a struct gencore_plan. */
#define NATIVE_PLAN "pytest_gencore.capture._native.plan"

/* Borrow the contents of a bytes object. 0, or -1 with an exception set. */
int native_bytes(PyObject *object, const char **data, uint64_t *size);

/* Set OSError from a -errno; returns NULL. */
PyObject *native_error(int error);

/* A new reference: the tuple that pytest_gencore.protocol.CaptureResult is made of. */
PyObject *native_result(const struct gencore_result *result);

/* Of triggers.c; ended by an empty one. */
extern PyMethodDef native_trigger_methods[];

#endif
