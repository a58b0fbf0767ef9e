/* arch_x86_64.c - registers and process creation on x86-64. */
#include "gencore.h"

#if defined(__x86_64__)

#include <asm/prctl.h>
#include <stddef.h>
#include <ucontext.h>

#include "raw.h"

/* Positions in struct user_regs_struct (sys/user.h), the order of NT_PRSTATUS. */
/* clang-format off */
enum {
    R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI,
    ORIG_RAX, RIP, CS, EFLAGS, RSP, SS, FS_BASE, GS_BASE, DS, ES, FS, GS,
};
/* clang-format on */

#define FXSAVE_SIZE 512
#define SOFTWARE_OFFSET 464
#define EXTENDED_MAGIC 0x46505853u /* FP_XSTATE_MAGIC1 */

/* struct _fpx_sw_bytes, asm/sigcontext.h; of C libraries only glibc has it. */
struct software_bytes {
    uint32_t magic1, extended_size;
    uint64_t xstate_bv;
    uint32_t xstate_size, padding[7];
};

/* clang-format off */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl gencore_clone\n"
    ".hidden gencore_clone\n"
    ".type gencore_clone, @function\n"
    "gencore_clone:\n"               /* rdi flags, rsi stack top, rdx function, rcx argument, r8 tid */
    "    .cfi_startproc\n"
    "    and $-16, %rsi\n"
    "    sub $16, %rsi\n"
    "    mov %rdx, (%rsi)\n"
    "    mov %rcx, 8(%rsi)\n"
    "    mov %r8, %rdx\n"
    "    xor %r10d, %r10d\n"
    "    xor %r8d, %r8d\n"
    "    mov $56, %eax\n"            /* SYS_clone */
    "    syscall\n"
    "    test %rax, %rax\n"
    "    jz 1f\n"
    "    ret\n"
    "1:\n"
    "    .cfi_undefined rip\n"
    "    xor %ebp, %ebp\n"
    "    pop %rax\n"
    "    pop %rdi\n"
    "    call *%rax\n"
    "    mov %eax, %edi\n"
    "    mov $231, %eax\n"           /* SYS_exit_group */
    "    syscall\n"
    "    hlt\n"
    "    .cfi_endproc\n"
    ".size gencore_clone, . - gencore_clone\n"

    ".p2align 4\n"
    ".globl gencore_save_registers\n"
    ".hidden gencore_save_registers\n"
    ".type gencore_save_registers, @function\n"
    "gencore_save_registers:\n"      /* rdi: 27 registers, zeroed */
    "    .cfi_startproc\n"
    "    mov %r15, 0(%rdi)\n"
    "    mov %r14, 8(%rdi)\n"
    "    mov %r13, 16(%rdi)\n"
    "    mov %r12, 24(%rdi)\n"
    "    mov %rbp, 32(%rdi)\n"
    "    mov %rbx, 40(%rdi)\n"
    "    movq $-1, 120(%rdi)\n"      /* orig_rax: not in a system call */
    "    mov (%rsp), %rax\n"
    "    mov %rax, 128(%rdi)\n"      /* rip: where this call returns to */
    "    lea 8(%rsp), %rax\n"
    "    mov %rax, 152(%rdi)\n"      /* rsp after the return */
    "    pushfq\n"
    "    .cfi_adjust_cfa_offset 8\n"
    "    pop %rax\n"
    "    .cfi_adjust_cfa_offset -8\n"
    "    mov %rax, 144(%rdi)\n"
    "    mov %cs, %eax\n"
    "    mov %rax, 136(%rdi)\n"
    "    mov %ss, %eax\n"
    "    mov %rax, 160(%rdi)\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".size gencore_save_registers, . - gencore_save_registers\n"

    ".p2align 4\n"
    ".globl gencore_call_on_stack\n"
    ".hidden gencore_call_on_stack\n"
    ".type gencore_call_on_stack, @function\n"
    "gencore_call_on_stack:\n"       /* rdi: top of the stack, rsi: function */
    "    .cfi_startproc\n"
    "    push %rbp\n"
    "    .cfi_def_cfa_offset 16\n"
    "    .cfi_offset rbp, -16\n"
    "    mov %rsp, %rbp\n"
    "    .cfi_def_cfa_register rbp\n"
    "    mov %rdi, %rsp\n"
    "    call *%rsi\n"
    "    mov %rbp, %rsp\n"
    "    pop %rbp\n"
    "    .cfi_def_cfa rsp, 8\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".size gencore_call_on_stack, . - gencore_call_on_stack\n"

    /* Debuggers know a signal frame by these very instructions. */
    ".p2align 4\n"
    ".type gencore_return_from_signal, @function\n"
    "gencore_return_from_signal:\n"
    "    mov $15, %rax\n"            /* SYS_rt_sigreturn */
    "    syscall\n"
    ".size gencore_return_from_signal, . - gencore_return_from_signal\n");
/* clang-format on */

extern void gencore_return_from_signal(void) __attribute__((visibility("hidden")));

const unsigned long gencore_restorer_flag = 0x04000000; /* SA_RESTORER, asm/signal.h */
void (*const gencore_restorer)(void) = gencore_return_from_signal;

static void
save_segment_bases(struct gencore_thread *thread)
{
    (void)raw2(SYS_arch_prctl, ARCH_GET_FS, &thread->regs[FS_BASE]);
    (void)raw2(SYS_arch_prctl, ARCH_GET_GS, &thread->regs[GS_BASE]);
    thread->tls = thread->regs[FS_BASE];
}

uint64_t
gencore_thread_pointer(void)
{
    uint64_t base = 0;

    (void)raw2(SYS_arch_prctl, ARCH_GET_FS, &base);
    return base;
}

uint64_t
gencore_signed_bits(void)
{
    return 0;
}

static void
cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "0"(leaf), "2"(subleaf));
}

static int
has_xsave(void)
{
    uint32_t out[4];

    cpuid(1, 0, out);
    return (out[2] >> 27) & 1; /* OSXSAVE: the kernel has switched it on */
}

uint64_t
gencore_floating_point_size(void)
{
    uint32_t out[4];

    if (!has_xsave()) {
        return FXSAVE_SIZE;
    }
    cpuid(0xd, 0, out);
    return out[1]; /* bytes for the features in XCR0, uncompacted */
}

void
gencore_save_floating_point(struct gencore_thread *thread, void *area, uint64_t size)
{
    uint8_t *bytes = area;
    struct software_bytes software;
    uint32_t low, high;

    save_segment_bases(thread);
    thread->fp_address = (uint64_t)(uintptr_t)area;
    thread->fp_size = size;
    if (size == FXSAVE_SIZE) {
        __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
        return;
    }
    /* The header must be zero before the first XSAVE: Intel SDM, volume 1, 13.4.2. */
    for (unsigned int i = 0; i < 64; i++) {
        bytes[FXSAVE_SIZE + i] = 0;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
    software = (struct software_bytes){
        .magic1 = EXTENDED_MAGIC,
        .extended_size = (uint32_t)size + 4,
        .xstate_bv = ((uint64_t)high << 32) | low,
        .xstate_size = (uint32_t)size,
    };
    for (unsigned int i = 0; i < sizeof(software); i++) {
        bytes[SOFTWARE_OFFSET + i] = ((uint8_t *)&software)[i];
    }
}

void
gencore_registers_from_context(struct gencore_thread *thread, void *context)
{
    const ucontext_t *frame = context;
    const greg_t *from = frame->uc_mcontext.gregs;
    uint64_t *to = thread->regs;
    uint64_t segments = (uint64_t)from[REG_CSGSFS];
    const uint8_t *floating_point = (const uint8_t *)frame->uc_mcontext.fpregs;

    to[R15] = (uint64_t)from[REG_R15];
    to[R14] = (uint64_t)from[REG_R14];
    to[R13] = (uint64_t)from[REG_R13];
    to[R12] = (uint64_t)from[REG_R12];
    to[RBP] = (uint64_t)from[REG_RBP];
    to[RBX] = (uint64_t)from[REG_RBX];
    to[R11] = (uint64_t)from[REG_R11];
    to[R10] = (uint64_t)from[REG_R10];
    to[R9] = (uint64_t)from[REG_R9];
    to[R8] = (uint64_t)from[REG_R8];
    to[RAX] = (uint64_t)from[REG_RAX];
    to[RCX] = (uint64_t)from[REG_RCX];
    to[RDX] = (uint64_t)from[REG_RDX];
    to[RSI] = (uint64_t)from[REG_RSI];
    to[RDI] = (uint64_t)from[REG_RDI];
    to[ORIG_RAX] = UINT64_MAX; /* the frame does not keep it */
    to[RIP] = (uint64_t)from[REG_RIP];
    to[EFLAGS] = (uint64_t)from[REG_EFL];
    to[RSP] = (uint64_t)from[REG_RSP];
    /* CS, GS, FS, SS: four 16-bit values in one word, struct sigcontext in asm/sigcontext.h. */
    to[CS] = segments & 0xffff;
    to[GS] = (segments >> 16) & 0xffff;
    to[FS] = (segments >> 32) & 0xffff;
    to[SS] = segments >> 48;
    save_segment_bases(thread);
    thread->sigmask = *(const gencore_sigset *)&frame->uc_sigmask;

    thread->fp_address = (uint64_t)(uintptr_t)floating_point;
    thread->fp_size = 0;
    if (floating_point) {
        const void *area = floating_point + SOFTWARE_OFFSET;
        const struct software_bytes *software = area;

        thread->fp_size = software->magic1 == EXTENDED_MAGIC ? software->xstate_size : FXSAVE_SIZE;
    }
}

uint64_t
gencore_stack_pointer(const struct gencore_thread *thread)
{
    return thread->regs[RSP];
}

void
gencore_registers_from_position(struct gencore_thread *thread, uint64_t pc, uint64_t sp)
{
    thread->regs[RIP] = pc;
    thread->regs[RSP] = sp;
}

#else
typedef int gencore_not_this_architecture;
#endif
