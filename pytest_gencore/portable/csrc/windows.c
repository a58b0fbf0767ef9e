/* gencore-minidump.exe PID FILE MILLISECONDS: writes a minidump of a process into a new file.

   A program of its own, and not a part of Python: MiniDumpWriteDump is to be called from another
   process than the one it writes, and one file then serves every Python on 64-bit Windows.

   Ends with status 0 if the file is there. Otherwise with 1 (2: wrong arguments), one line on
   standard error that says which function failed with which number of winerror.h, and no file.

   It keeps its limit of time itself, as far as dbghelp asks: without a snapshot all threads of the
   process are suspended while its memory is read, whoever waits for the file among them, and an
   end from outside would leave them so. Who has a snapshot taken may end this at any time, and then
   removes the file.

   Facts are from Microsoft's documentation of minidumpapiset.h and processsnapshot.h. */

#include <windows.h>

#include <dbghelp.h>
#include <stdio.h>

/* processsnapshot.h, which mingw-w64 10 has not. Windows has these from 8.1 on, the oldest that
   CPython 3.10 runs on; Wine has them not. */
enum {
    PSS_CAPTURE_VA_CLONE = 0x00000001,
    PSS_CAPTURE_HANDLES = 0x00000004,
    PSS_CAPTURE_HANDLE_BASIC_INFORMATION = 0x00000010,
    PSS_CAPTURE_HANDLE_TYPE_SPECIFIC_INFORMATION = 0x00000020,
    PSS_CAPTURE_THREADS = 0x00000080,
    PSS_CAPTURE_THREAD_CONTEXT = 0x00000100,
    PSS_CAPTURE_THREAD_CONTEXT_EXTENDED = 0x00000200
};

typedef DWORD(WINAPI *capture_function)(HANDLE process, DWORD flags, DWORD context, HANDLE *made);
typedef DWORD(WINAPI *free_function)(HANDLE owner, HANDLE snapshot);

/* Handles without their names: to ask for the name of a pipe that is being read waits for the
   reader, and under pytest-xdist a worker reads a pipe all the time. */
static const DWORD CAPTURED = PSS_CAPTURE_VA_CLONE | PSS_CAPTURE_HANDLES
                              | PSS_CAPTURE_HANDLE_BASIC_INFORMATION
                              | PSS_CAPTURE_HANDLE_TYPE_SPECIFIC_INFORMATION | PSS_CAPTURE_THREADS
                              | PSS_CAPTURE_THREAD_CONTEXT | PSS_CAPTURE_THREAD_CONTEXT_EXTENDED;

/* All memory that can be read; without the second flag what cannot fails the whole. Which memory
   that is (FullMemoryInfo), and since when each thread has run (ThreadInfo). */
static const DWORD WRITTEN = MiniDumpWithFullMemory | MiniDumpIgnoreInaccessibleMemory
                             | MiniDumpWithFullMemoryInfo | MiniDumpWithThreadInfo
                             | MiniDumpWithUnloadedModules;

struct task {
    DWORD pid;
    HANDLE file;
    BOOL is_snapshot;
    ULONGLONG stop_at; /* as GetTickCount64 tells the time, in milliseconds */
};

/* What went wrong; ``function`` is NULL if nothing did. */
struct problem {
    const char *function;
    DWORD number;
};

/* Write the words of Windows for an error into ``text``, as UTF-8 and without the end of the line:
   in English if it has that. */
static void
describe(DWORD number, char *text, int size)
{
    const DWORD from = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    const DWORD line = FORMAT_MESSAGE_MAX_WIDTH_MASK;
    wchar_t wide[200];
    text[0] = 0;
    DWORD length = FormatMessageW(from | line, NULL, number,
                                  MAKELANGID(LANG_ENGLISH, SUBLANG_ENGLISH_US), wide, 200, NULL);
    if (!length) {
        length = FormatMessageW(from | line, NULL, number, 0, wide, 200, NULL);
    }
    while (length && wide[length - 1] <= L' ') {
        length--;
    }
    wide[length < 200 ? length : 199] = 0;
    if (!WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, size, NULL, NULL)) {
        text[0] = 0;
    }
}

static int
fail(struct problem problem)
{
    char text[700];
    describe(problem.number, text, sizeof(text));
    fprintf(stderr, "%s: error %lu: %s\n", problem.function, problem.number, text);
    return 1;
}

/* What dbghelp asks. That its handle is one of a snapshot is said by S_FALSE at the beginning of
   ``output``, all of which is a union; as mingw-w64 10 declares it, ``output->Status`` is somewhere
   else. */
static BOOL CALLBACK
answer(void *param, MINIDUMP_CALLBACK_INPUT *input, MINIDUMP_CALLBACK_OUTPUT *output)
{
    const struct task *task = param;
    if (input->CallbackType == IsProcessSnapshotCallback && task->is_snapshot) {
        *(HRESULT *)(void *)output = S_FALSE;
    }
    else if (input->CallbackType == CancelCallback) {
        output->CheckCancel = TRUE;
        output->Cancel = GetTickCount64() >= task->stop_at;
    }
    return TRUE;
}

static BOOL
read_at(HANDLE file, ULONGLONG offset, void *data, DWORD size)
{
    LARGE_INTEGER place = {.QuadPart = (LONGLONG)offset};
    DWORD got = 0;
    return SetFilePointerEx(file, place, NULL, FILE_BEGIN) && ReadFile(file, data, size, &got, NULL)
           && got == size;
}

/* Tell whether the file is as long as its list of memory says, and has such a list. Wine 8 does not
   notice that a disk is full. */
static BOOL
is_whole(HANDLE file)
{
    MINIDUMP_HEADER header;
    MINIDUMP_DIRECTORY entry = {.StreamType = UnusedStream};
    MINIDUMP_MEMORY64_LIST list;
    MINIDUMP_MEMORY_DESCRIPTOR64 range;
    LARGE_INTEGER size;

    if (!read_at(file, 0, &header, sizeof(header)) || !GetFileSizeEx(file, &size)) {
        return FALSE;
    }
    for (ULONG i = 0; i < header.NumberOfStreams && entry.StreamType != Memory64ListStream; i++) {
        if (!read_at(file, header.StreamDirectoryRva + i * sizeof(entry), &entry, sizeof(entry))) {
            return FALSE;
        }
    }
    const DWORD head = offsetof(MINIDUMP_MEMORY64_LIST, MemoryRanges);
    if (entry.StreamType != Memory64ListStream || !read_at(file, entry.Location.Rva, &list, head)) {
        return FALSE;
    }
    ULONGLONG end = list.BaseRva;
    for (ULONGLONG i = 0; i < list.NumberOfMemoryRanges; i++) {
        ULONGLONG place = entry.Location.Rva + head + i * sizeof(range);
        if (!read_at(file, place, &range, sizeof(range))) {
            return FALSE;
        }
        end += range.DataSize;
    }
    return end <= (ULONGLONG)size.QuadPart;
}

/* Write what the handle of a process or of a snapshot shows; the file has the comment. */
static struct problem
write_from(HANDLE source, struct task *task, DWORD flags, char *comment)
{
    MINIDUMP_USER_STREAM said = {CommentStreamA, (ULONG)strlen(comment) + 1, comment};
    MINIDUMP_USER_STREAM_INFORMATION streams = {1, &said};
    MINIDUMP_CALLBACK_INFORMATION callback = {answer, task};
    LARGE_INTEGER start = {.QuadPart = 0};

    if (!SetFilePointerEx(task->file, start, NULL, FILE_BEGIN) || !SetEndOfFile(task->file)) {
        return (struct problem){"SetEndOfFile", GetLastError()};
    }
    if (!MiniDumpWriteDump(source, task->pid, task->file, (MINIDUMP_TYPE)flags, NULL, &streams,
                           &callback)) {
        DWORD number = GetLastError(); /* an HRESULT, as a rule around a number of winerror.h */
        BOOL is_around = (number & 0xFFFF0000) == 0x80070000;
        return (struct problem){"MiniDumpWriteDump", is_around ? number & 0xFFFF : number};
    }
    if (!is_whole(task->file)) {
        return (struct problem){"MiniDumpWriteDump: the file is shorter than it says",
                                ERROR_HANDLE_EOF};
    }
    return (struct problem){NULL, 0};
}

/* Write from a snapshot: the process stands still only while that is made. */
static struct problem
write_snapshot(HANDLE process, struct task *task)
{
    char comment[] = "pytest-gencore: of a snapshot";
    HMODULE kernel = GetModuleHandleW(L"kernel32.dll");
    capture_function capture = NULL;
    free_function release = NULL;
    HANDLE snapshot = NULL;

    if (kernel) {
        capture = (capture_function)(void *)GetProcAddress(kernel, "PssCaptureSnapshot");
        release = (free_function)(void *)GetProcAddress(kernel, "PssFreeSnapshot");
    }
    if (!capture || !release) {
        return (struct problem){"PssCaptureSnapshot", ERROR_PROC_NOT_FOUND};
    }
    DWORD number = capture(process, CAPTURED, CONTEXT_ALL, &snapshot);
    if (number != ERROR_SUCCESS) {
        return (struct problem){"PssCaptureSnapshot", number};
    }
    task->is_snapshot = TRUE;
    struct problem problem = write_from(snapshot, task, WRITTEN | MiniDumpWithHandleData, comment);
    task->is_snapshot = FALSE;
    release(GetCurrentProcess(), snapshot);
    return problem;
}

/* Write from a snapshot, or else from the process itself: not if that would only make it stand
   still for nothing. */
static struct problem
write_dump(HANDLE process, struct task *task)
{
    char text[700], comment[900];
    struct problem problem = write_snapshot(process, task);
    if (!problem.function || problem.number == ERROR_DISK_FULL
        || GetTickCount64() >= task->stop_at) {
        return problem;
    }
    describe(problem.number, text, sizeof(text));
    snprintf(comment, sizeof(comment),
             "pytest-gencore: of the process itself, without a snapshot: %s: error %lu: %s",
             problem.function, problem.number, text);
    return write_from(process, task, WRITTEN, comment);
}

int
wmain(int argc, wchar_t **argv)
{
    struct task task = {.pid = argc == 4 ? wcstoul(argv[1], NULL, 10) : 0};
    if (!task.pid) {
        fprintf(stderr, "usage: gencore-minidump PID FILE MILLISECONDS\n");
        return 2;
    }
    task.stop_at = GetTickCount64() + wcstoul(argv[3], NULL, 10);
    HANDLE process = OpenProcess(PROCESS_ALL_ACCESS, FALSE, task.pid);
    if (!process) {
        return fail((struct problem){"OpenProcess", GetLastError()});
    }
    task.file = CreateFileW(argv[2], GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_NEW,
                            FILE_ATTRIBUTE_NORMAL, NULL);
    if (task.file == INVALID_HANDLE_VALUE) {
        return fail((struct problem){"CreateFile", GetLastError()});
    }
    struct problem problem = write_dump(process, &task);
    CloseHandle(task.file);
    if (problem.function) {
        DeleteFileW(argv[2]);
        return fail(problem);
    }
    return 0;
}
