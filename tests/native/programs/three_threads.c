/* A Windows program: three threads, each with a text on its stack, and one on the heap. It says
   its process id, those of the threads, and where the heap's is; and waits for the end of its
   standard input. */

#include <windows.h>

#include <stdio.h>
#include <stdlib.h>

static volatile LONG ready;
static DWORD ids[3];
static char *heap;

static void
wait_with_marker(int number)
{
    volatile char marker[40];
    snprintf((char *)marker, sizeof(marker), "marker of thread %d", number);
    InterlockedIncrement(&ready);
    if (number == 0) {
        printf("%lu %lu %lu %lu %llu\n", GetCurrentProcessId(), ids[0], ids[1], ids[2],
               (ULONGLONG)(ULONG_PTR)heap);
        fflush(stdout);
        getchar();
    }
    else {
        Sleep(INFINITE);
    }
    if (!marker[0]) { /* it must live until here */
        abort();
    }
}

static DWORD WINAPI
run(void *number)
{
    wait_with_marker((int)(INT_PTR)number);
    return 0;
}

int
wmain(void)
{
    heap = malloc(1 << 20);
    if (!heap) {
        return 1;
    }
    ids[0] = GetCurrentThreadId();
    snprintf(heap, 40, "a text on the heap, thread %d", 0);
    for (int i = 1; i < 3; i++) {
        if (!CreateThread(NULL, 0, run, (void *)(INT_PTR)i, 0, &ids[i])) {
            return 1;
        }
    }
    while (ready < 2) {
        SwitchToThread();
    }
    wait_with_marker(0);
    return 0;
}
