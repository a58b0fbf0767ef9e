/* helpers.c - what Python programs cannot do by themselves; loaded with ctypes, which lets go of
 * the GIL. */
#include <stdio.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int vfork_until(int ready, int release);
double chaos(double start, long steps);

/* Be in vfork until a byte comes from `release`; the child writes one to `ready`. Its exit status.
 */
int
vfork_until(int ready, int release)
{
    char byte = 'x';
    int status = -1;
    pid_t pid = vfork();

    if (pid == 0) {
        _exit(write(ready, &byte, 1) == 1 && read(release, &byte, 1) == 1 ? 7 : 1);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The logistic map: one lost bit of a floating point register changes everything. */
double
chaos(double start, long steps)
{
    double x = start;

    for (long i = 0; i < steps; i++) {
        x = 3.99 * x * (1.0 - x);
    }
    return x;
}
