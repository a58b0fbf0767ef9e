/*
 * scanner.c - where many byte strings occur in a block, found in one pass.
 *
 * Each string has at least `shortest` bytes. So wherever one begins, one of the words that are
 * looked at, every `stride` bytes, is one of its first `stride` words. All of those are in a table
 * of bits by their hash: most words are in none. No lookup waits for the one before, as in the
 * algorithm of Wu and Manber, which moves by what it has found. Words have eight bytes if the
 * strings are long enough, for words of four of text in wide characters are everywhere in memory;
 * else four.
 */
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "pytest_gencore.redaction._scanner.table"
#define BITS 17
#define SHORT_WORD 4
#define LONG_WORD 8
#define STRIDE_LIMIT 32 /* larger ones save little, and fill the table */
#define NONE UINT32_MAX

struct pattern {
    const uint8_t *data;
    uint64_t size;
};

/* A word of a pattern. */
struct word {
    uint32_t pattern, offset;
    uint32_t next; /* with the same hash; NONE */
};

struct table {
    struct pattern *patterns;
    struct word *words;
    PyObject *owner; /* the tuple of bytes that the patterns point into */
    uint64_t stride; /* 0 without patterns */
    uint64_t word;   /* SHORT_WORD or LONG_WORD */
    uint64_t bits[(1 << BITS) / 64];
    uint32_t first[1 << BITS];
};

struct found {
    uint64_t (*at)[2]; /* offset, pattern */
    size_t count, room;
};

static inline uint32_t
hash(const uint8_t *data, uint64_t size)
{
    uint64_t word = 0;

    memcpy(&word, data, size);
    return (uint32_t)(word * 0x9e3779b97f4a7c15U >> (64 - BITS));
}

static void
fill_table(struct table *table, uint32_t count)
{
    struct word *word = table->words;

    memset(table->first, 0xff, sizeof(table->first));
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t offset = 0; offset < table->stride; offset++) {
            uint32_t key = hash(table->patterns[i].data + offset, table->word);

            *word = (struct word){i, offset, table->first[key]};
            table->first[key] = (uint32_t)(word++ - table->words);
            table->bits[key / 64] |= 1ULL << key % 64;
        }
    }
}

static inline uint64_t
is_known(const struct table *table, const uint8_t *data, uint64_t word)
{
    uint32_t key = hash(data, word);

    return table->bits[key / 64] >> key % 64 & 1;
}

/* Note all patterns that have the word at `at`; 0, or -1 without memory. */
static int
look(const struct table *table, const uint8_t *data, uint64_t at, uint64_t size,
     struct found *found)
{
    for (uint32_t i = table->first[hash(data + at, table->word)]; i != NONE;
         i = table->words[i].next) {
        const struct word *word = &table->words[i];
        const struct pattern *pattern = &table->patterns[word->pattern];
        uint64_t start = at - word->offset;

        if (at < word->offset || pattern->size > size - start
            || memcmp(data + start, pattern->data, pattern->size) != 0) {
            continue;
        }
        if (found->count == found->room) {
            size_t room = found->room ? 2 * found->room : 64;
            void *larger = realloc(found->at, room * sizeof(found->at[0]));

            if (!larger) {
                return -1;
            }
            found->at = larger;
            found->room = room;
        }
        found->at[found->count][0] = start;
        found->at[found->count++][1] = word->pattern;
    }
    return 0;
}

/* Inlined once for each size of a word, which is a constant then. */
static inline int
scan_words(const struct table *table, const uint8_t *data, uint64_t size, struct found *found,
           uint64_t word)
{
    uint64_t stride = table->stride, at = 0;

    while (at + word <= size) {
        while (at + 3 * stride + word <= size
               && !(is_known(table, data + at, word) | is_known(table, data + at + stride, word)
                    | is_known(table, data + at + 2 * stride, word)
                    | is_known(table, data + at + 3 * stride, word))) {
            at += 4 * stride;
        }
        for (unsigned int i = 0; i < 4 && at + word <= size; i++, at += stride) {
            if (is_known(table, data + at, word) && look(table, data, at, size, found) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int
scan(const struct table *table, const uint8_t *data, uint64_t size, struct found *found)
{
    if (table->stride == 0) {
        return 0;
    }
    return table->word == LONG_WORD ? scan_words(table, data, size, found, LONG_WORD)
                                    : scan_words(table, data, size, found, SHORT_WORD);
}

static void
free_table(PyObject *capsule)
{
    struct table *table = PyCapsule_GetPointer(capsule, TABLE);

    if (table) {
        Py_XDECREF(table->owner);
        free(table->patterns);
        free(table->words);
        free(table);
    }
}

PyDoc_STRVAR(
    make_table_doc,
    "make_table(patterns, /)\n--\n\nReturn what finds these byte strings, of 4 bytes or more.");

static PyObject *
scanner_make_table(PyObject *module, PyObject *args)
{
    PyObject *patterns, *capsule;
    Py_ssize_t count;
    uint64_t shortest = UINT64_MAX;
    struct table *table;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!:make_table", &PyTuple_Type, &patterns)) {
        return NULL;
    }
    count = PyTuple_Size(patterns);
    table = calloc(1, sizeof(*table));
    if (!table) {
        return PyErr_NoMemory();
    }
    capsule = PyCapsule_New(table, TABLE, free_table);
    if (!capsule) {
        free(table);
        return NULL;
    }
    table->patterns = calloc((size_t)count + 1, sizeof(*table->patterns));
    if (!table->patterns) {
        Py_DECREF(capsule);
        return PyErr_NoMemory();
    }
    Py_INCREF(patterns);
    table->owner = patterns;
    for (Py_ssize_t i = 0; i < count; i++) {
        char *data;
        Py_ssize_t size;

        if (PyBytes_AsStringAndSize(PyTuple_GetItem(patterns, i), &data, &size) < 0) {
            Py_DECREF(capsule);
            return NULL;
        }
        if (size < SHORT_WORD) {
            PyErr_SetString(PyExc_ValueError, "a pattern is too short");
            Py_DECREF(capsule);
            return NULL;
        }
        table->patterns[i] = (struct pattern){(const uint8_t *)data, (uint64_t)size};
        if ((uint64_t)size < shortest) {
            shortest = (uint64_t)size;
        }
    }
    if (count) {
        table->word = shortest < 2 * LONG_WORD ? SHORT_WORD : LONG_WORD;
        table->stride = shortest - table->word + 1;
        if (table->stride > STRIDE_LIMIT) {
            table->stride = STRIDE_LIMIT;
        }
        table->words = calloc((size_t)count * table->stride, sizeof(*table->words));
        if (!table->words) {
            Py_DECREF(capsule);
            return PyErr_NoMemory();
        }
        fill_table(table, (uint32_t)count);
    }
    return capsule;
}

PyDoc_STRVAR(
    find_doc,
    "find(table, data, size, /)\n--\n\n"
    "Return (offset, number of the pattern) of all that occur in a bytearray, unsorted.\n\n"
    "Only its first bytes are looked at. The GIL is free meanwhile: nobody may change the\n"
    "bytearray.");

static PyObject *
scanner_find(PyObject *module, PyObject *args)
{
    PyObject *capsule, *array, *list;
    const struct table *table;
    struct found found = {0};
    char *data;
    Py_ssize_t size;
    int error;

    (void)module;
    if (!PyArg_ParseTuple(args, "OYn:find", &capsule, &array, &size)) {
        return NULL;
    }
    table = PyCapsule_GetPointer(capsule, TABLE);
    if (!table) {
        return NULL;
    }
    if (size < 0 || size > PyByteArray_Size(array)) {
        PyErr_SetString(PyExc_ValueError, "there are not so many bytes");
        return NULL;
    }
    data = PyByteArray_AsString(array);
    Py_BEGIN_ALLOW_THREADS error = scan(table, (const uint8_t *)data, (uint64_t)size, &found);
    Py_END_ALLOW_THREADS list = error ? PyErr_NoMemory() : PyList_New((Py_ssize_t)found.count);
    for (size_t i = 0; list && i < found.count; i++) {
        PyObject *item = Py_BuildValue("(KK)", (unsigned long long)found.at[i][0],
                                       (unsigned long long)found.at[i][1]);

        if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) {
            Py_DECREF(list);
            list = NULL;
        }
    }
    free(found.at);
    return list;
}

static PyMethodDef methods[] = {
    {"make_table", scanner_make_table, METH_VARARGS, make_table_doc},
    {"find", scanner_find, METH_VARARGS, find_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_GIL_DISABLED /* the stable ABI of 3.10 has no such slot */
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_scanner", .m_doc = "Many byte strings found in one pass.",
    .m_methods = methods,  .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__scanner(void)
{
    return PyModuleDef_Init(&definition);
}
