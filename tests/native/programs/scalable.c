/* scalable.c - threads that never call the system, with values in scalable vectors, and in a
 * matrix. */

/* Say so in cells[0], and stay until cells[1] is set. */
__attribute__((noinline)) static void
keep_value(volatile int *cells)
{
    __asm__ volatile(".arch_extension sve\n\t"
                     "ptrue p3.b\n\t"
                     "dup z7.b, #0x5a\n\t"
                     "mov w9, #1\n\t"
                     "str w9, [%0]\n"
                     "1:\tldr w9, [%0, #4]\n\t"
                     "cbz w9, 1b"
                     :
                     : "r"(cells)
                     : "x9", "v7", "memory");
}

/* The same in the streaming mode of SME, which begins with zeros; the second row of the matrix is
 * set. */
__attribute__((noinline)) static void
keep_matrix(volatile int *cells)
{
    unsigned char row[256]; /* the longest there is */

    __builtin_memset(row, 0x3c, sizeof(row));
    __asm__ volatile(".arch_extension sme\n\t"
                     "smstart\n\t"
                     "zero {za}\n\t"
                     "mov w12, #1\n\t"
                     "ldr za[w12, 0], [%1]\n\t"
                     "ptrue p3.b\n\t"
                     "dup z7.b, #0x5a\n\t"
                     "mov w9, #1\n\t"
                     "str w9, [%0]\n"
                     "1:\tldr w9, [%0, #4]\n\t"
                     "cbz w9, 1b\n\t"
                     "smstop"
                     :
                     : "r"(cells), "r"(row)
                     : "x9", "x12", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8",
                       "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",
                       "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
                       "v31");
}

/* Functions whose return addresses are signed, if the compiler is told so. */
void spin_vectors(volatile int *cells);
void spin_matrix(volatile int *cells);

void
spin_vectors(volatile int *cells)
{
    keep_value(cells);
    __asm__ volatile(""); /* no tail call */
}

void
spin_matrix(volatile int *cells)
{
    keep_matrix(cells);
    __asm__ volatile("");
}
