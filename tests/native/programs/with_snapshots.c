/* The program that writes minidumps, with a stand-in for the snapshots that Wine has not: handles
   of the process itself. It asks what dbghelp asks on Windows, and says what it has been told. */

#include <windows.h>

#include <dbghelp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static DWORD WINAPI
take_snapshot(HANDLE process, DWORD flags, DWORD context, HANDLE *made)
{
    const HANDLE own = GetCurrentProcess();
    printf("captured %lx %s\n", flags, context == CONTEXT_ALL ? "all" : "some");
    return DuplicateHandle(own, process, own, made, 0, FALSE, DUPLICATE_SAME_ACCESS)
               ? ERROR_SUCCESS
               : GetLastError();
}

static DWORD WINAPI
free_snapshot(HANDLE owner, HANDLE snapshot)
{
    printf("released\n");
    return owner == GetCurrentProcess() && CloseHandle(snapshot) ? ERROR_SUCCESS
                                                                 : ERROR_INVALID_HANDLE;
}

static FARPROC
find_function(HMODULE module, const char *name)
{
    (void)module;
    return strcmp(name, "PssFreeSnapshot") == 0 ? (FARPROC)(void *)free_snapshot
                                                : (FARPROC)(void *)take_snapshot;
}

static BOOL
ask_and_write(HANDLE source, DWORD pid, HANDLE file, MINIDUMP_TYPE type, void *exception,
              MINIDUMP_USER_STREAM_INFORMATION *streams, MINIDUMP_CALLBACK_INFORMATION *callback)
{
    MINIDUMP_CALLBACK_INPUT input = {.CallbackType = IsProcessSnapshotCallback};
    union { /* as Microsoft's header has it: the status begins where all begins */
        HRESULT status;
        MINIDUMP_CALLBACK_OUTPUT whole;
    } output = {.status = E_NOTIMPL};

    callback->CallbackRoutine(callback->CallbackParam, &input, &output.whole);
    BOOL is_snapshot = output.status == S_FALSE;
    printf("of a %s%s\n", is_snapshot ? "snapshot" : "process",
           type & MiniDumpWithHandleData ? ", with handles" : "");
    input.CallbackType = CancelCallback;
    memset(&output, 0, sizeof(output));
    callback->CallbackRoutine(callback->CallbackParam, &input, &output.whole);
    if (output.whole.Cancel) {
        SetLastError((DWORD)HRESULT_FROM_WIN32(ERROR_CANCELLED));
        return FALSE;
    }
    if (is_snapshot && getenv("SNAPSHOT_FAILS")) {
        SetLastError((DWORD)HRESULT_FROM_WIN32(ERROR_INVALID_HANDLE));
        return FALSE;
    }
    return MiniDumpWriteDump(source, pid, file, type, exception, streams, callback);
}

#define GetProcAddress find_function
#define MiniDumpWriteDump ask_and_write
#include "../../../pytest_gencore/portable/csrc/windows.c"
