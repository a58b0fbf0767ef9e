/*
 * free_threads.c - what the probe needs in a build without a GIL; nothing in any other.
 *
 * There, what looks at other threads stops the world first: it waits until each thread has detached
 * itself or stands at a safe point. In a copy of the snapshot the others are gone, and those that
 * ran would be waited for for ever. So they are detached: their frames stay as they are.
 *
 * The fields are those of PyThreadState (Include/cpython/pystate.h); such an extension is compiled
 * for one version of CPython.
 */
#include "glue.h"

#ifdef Py_GIL_DISABLED
#define DETACHED 0     /* _Py_THREAD_DETACHED, Include/internal/pycore_pystate.h */
#define SUSPENDED 2    /* _Py_THREAD_SUSPENDED */
#define PLEASE_STOP 32 /* _PY_EVAL_PLEASE_STOP_BIT, Include/internal/pycore_ceval.h */

void
gencore_detach_threads(void *own)
{
    for (PyInterpreterState *interpreter = PyInterpreterState_Head(); interpreter;
         interpreter = PyInterpreterState_Next(interpreter)) {
        for (PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter); thread;
             thread = PyThreadState_Next(thread)) {
            if (thread != own || thread->state == SUSPENDED) {
                thread->state = DETACHED;
            }
        }
    }
    ((PyThreadState *)own)->eval_breaker &= ~(uintptr_t)PLEASE_STOP;
}
#endif
