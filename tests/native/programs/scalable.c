/* scalable.c - a thread that never calls the system, with a value in a scalable vector. */

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

/* Two functions whose return addresses are signed, if the compiler is told so. */
void spin(volatile int *cells);

void
spin(volatile int *cells)
{
    keep_value(cells);
    __asm__ volatile(""); /* no tail call */
}
