/*
 * raw.h - system calls without libc.
 *
 * Signal-safe code (threads stopped, in a child that shares or copies our memory, in a signal
 * handler) may not call libc: it takes locks, runs atfork handlers, touches errno, and can be
 * interposed. These calls return the kernel's own result: a value, or -errno.
 */
#ifndef GENCORE_RAW_H
#define GENCORE_RAW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)

static inline long
raw_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

static inline long
raw_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

#else
#error "pytest-gencore has no registers and system calls for this architecture"
#endif

/* An argument of a system call: pointers and integers alike. */
#define RAW_ARG(x) ((long)(x))

#define raw6(n, a, b, c, d, e, f) \
    raw_syscall6(n, RAW_ARG(a), RAW_ARG(b), RAW_ARG(c), RAW_ARG(d), RAW_ARG(e), RAW_ARG(f))
#define raw5(n, a, b, c, d, e) raw6(n, a, b, c, d, e, 0)
#define raw4(n, a, b, c, d) raw6(n, a, b, c, d, 0, 0)
#define raw3(n, a, b, c) raw6(n, a, b, c, 0, 0, 0)
#define raw2(n, a, b) raw6(n, a, b, 0, 0, 0, 0)
#define raw1(n, a) raw6(n, a, 0, 0, 0, 0, 0)
#define raw0(n) raw6(n, 0, 0, 0, 0, 0, 0)

#endif
