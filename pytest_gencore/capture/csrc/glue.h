/* glue.h - what the files that know Python share. */
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

/*
 * A new reference to None. Not Py_RETURN_NONE: headers of 3.12 and later take None for immortal, so
 * that an extension built with them takes references from None on 3.10 and 3.11 until it is freed.
 */
static inline PyObject *
native_none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

/* A new reference: the tuple that pytest_gencore.protocol.CaptureResult is made of. */
PyObject *native_result(const struct gencore_result *result);

/* The standby in a capsule, NULL for None; -1 with an exception set for anything else. */
int native_standby(PyObject *capsule, const struct gencore_standby **standby);

/* Keep a reference to an object in place of the one before. */
void native_hold(PyObject **held, PyObject *object);

/* Of triggers.c, cancel_triggers.c, child_triggers.c, worker_calls.c, thread_calls.c, probe.c,
 * peek.c and raises.c; ended by an empty one each. */
extern PyMethodDef native_trigger_methods[];
extern PyMethodDef native_cancel_methods[];
extern PyMethodDef native_child_methods[];
extern PyMethodDef native_worker_methods[];
extern PyMethodDef native_thread_methods[];
extern PyMethodDef native_probe_methods[];
extern PyMethodDef native_peek_methods[];
extern PyMethodDef native_raise_methods[];

/* ---- probe_heap.c: only for Python in a copy of the snapshot, and for tests --------- */

#define GENCORE_PEEK_LIMIT 65536

/* Copy memory that may not be there; returns how many bytes were. */
size_t gencore_copy_memory(void *to, const void *from, size_t size);

/* Find what gencore_use_own_heap() needs, while the process is sane. */
void gencore_find_allocator(void);

/* From now on, all memory of Python comes from a reservation of its own. Not undone: a copy ends.
 */
void gencore_use_own_heap(void);

#ifdef Py_GIL_DISABLED
/* In a copy of the snapshot: make all threads but that of this state look detached. */
void gencore_detach_threads(void *own);
#endif

/* Find the list of young objects, while the process is sane. The caller holds the GIL. */
void gencore_find_young_objects(void);

/* Make that list whole again, if a thread was in the middle of changing it. */
void gencore_mend_young_objects(void);

#endif
