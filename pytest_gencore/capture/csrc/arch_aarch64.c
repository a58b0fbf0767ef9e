/* arch_aarch64.c - registers and process creation on 64-bit ARM. */
#include "gencore.h"

#if defined(__aarch64__)

#include <asm/sigcontext.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include "raw.h"

/* Positions in struct user_pt_regs (asm/ptrace.h), the order of NT_PRSTATUS: x0 to x30, then these.
 */
enum {
    SP = 31,
    PC = 32,
    PSTATE = 33
};

/* clang-format off */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl gencore_clone\n"
    ".hidden gencore_clone\n"
    ".type gencore_clone, %function\n"
    "gencore_clone:\n"               /* x0 flags, x1 stack top, x2 function, x3 argument, x4 tid */
    "    .cfi_startproc\n"
    "    and x1, x1, #-16\n"
    "    stp x2, x3, [x1, #-16]!\n"
    "    mov x2, x4\n"
    "    mov x3, #0\n"
    "    mov x4, #0\n"
    "    mov x8, #220\n"             /* SYS_clone */
    "    svc #0\n"
    "    cbz x0, 1f\n"
    "    ret\n"
    "1:\n"
    "    .cfi_undefined x30\n"
    "    mov x29, #0\n"
    "    mov x30, #0\n"
    "    ldp x1, x0, [sp], #16\n"
    "    blr x1\n"
    "    mov x8, #94\n"              /* SYS_exit_group */
    "    svc #0\n"
    "    brk #0\n"
    "    .cfi_endproc\n"
    ".size gencore_clone, . - gencore_clone\n"

    ".p2align 4\n"
    ".globl gencore_save_registers\n"
    ".hidden gencore_save_registers\n"
    ".type gencore_save_registers, %function\n"
    "gencore_save_registers:\n"      /* x0: 34 registers, zeroed */
    "    .cfi_startproc\n"
    "    stp x19, x20, [x0, #152]\n"
    "    stp x21, x22, [x0, #168]\n"
    "    stp x23, x24, [x0, #184]\n"
    "    stp x25, x26, [x0, #200]\n"
    "    stp x27, x28, [x0, #216]\n"
    "    stp x29, x30, [x0, #232]\n"
    "    mov x1, sp\n"
    "    stp x1, x30, [x0, #248]\n"  /* sp, and pc: where this call returns to */
    "    ret\n"
    "    .cfi_endproc\n"
    ".size gencore_save_registers, . - gencore_save_registers\n"

    ".p2align 4\n"
    ".globl gencore_call_on_stack\n"
    ".hidden gencore_call_on_stack\n"
    ".type gencore_call_on_stack, %function\n"
    "gencore_call_on_stack:\n"       /* x0: top of the stack, x1: function */
    "    .cfi_startproc\n"
    "    stp x29, x30, [sp, #-16]!\n"
    "    .cfi_def_cfa_offset 16\n"
    "    .cfi_offset x29, -16\n"
    "    .cfi_offset x30, -8\n"
    "    mov x29, sp\n"
    "    .cfi_def_cfa_register x29\n"
    "    mov sp, x0\n"
    "    blr x1\n"
    "    mov sp, x29\n"
    "    ldp x29, x30, [sp], #16\n"
    "    .cfi_restore x29\n"
    "    .cfi_restore x30\n"
    "    .cfi_def_cfa sp, 0\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".size gencore_call_on_stack, . - gencore_call_on_stack\n");
/* clang-format on */

const unsigned long gencore_restorer_flag = 0; /* the vdso brings it */
void (*const gencore_restorer)(void) = NULL;

uint64_t
gencore_thread_pointer(void)
{
    uint64_t pointer;

    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

/*
 * How many bits depends on the size of the address space, which nothing else tells a process: the
 * processor is asked to remove a signature that has all of them set. Bit 55 says whose address it
 * is, those above it are the tag: Arm ARM, "Strip" and "CalculateBottomPACBit".
 */
uint64_t
gencore_signed_bits(void)
{
    const uint64_t all = (UINT64_C(1) << 55) - 1;
    register uint64_t address __asm__("x30") = all;

    __asm__ volatile("hint #7" : "+r"(address)); /* XPACLRI; nothing without the extension */
    return all ^ address;
}

/* Linux 5.19 and 6.3; the C library's headers may be older. */
enum {
    GET_MATRIX_LENGTH = 64, /* PR_SME_GET_VL */
    MATRIX_MAGIC = 0x54366345,
    SECOND_POINTER_MAGIC = 0x54504902
};

/* struct za_context without the matrix: it is off. */
struct matrix_context {
    struct _aarch64_ctx head;
    uint16_t vl;
    uint16_t reserved[3];
};

/* struct tpidr2_context */
struct second_pointer_context {
    struct _aarch64_ctx head;
    uint64_t pointer;
};

/* All that gencore_save_floating_point writes, as a signal frame has it: struct _aarch64_ctx. */
struct records {
    struct fpsimd_context fpsimd;
    struct sve_context sve;
    struct second_pointer_context second;
    struct matrix_context matrix;
    struct _aarch64_ctx end;
    uint64_t padding;
};

uint64_t
gencore_floating_point_size(void)
{
    return sizeof(struct records);
}

/* A call, as that of gencore_save_floating_point, leaves 128 bits of a vector: no more is live. */
static uint8_t *
add_vector_length(uint8_t *place)
{
    long length = raw1(SYS_prctl, PR_SVE_GET_VL);
    struct sve_context *context = (struct sve_context *)place;

    if (length <= 0) {
        return place;
    }
    *context = (struct sve_context){.head = {SVE_MAGIC, sizeof(*context)}};
    context->vl = (uint16_t)(length & PR_SVE_VL_LEN_MASK);
    return place + sizeof(*context);
}

/*
 * SME. A function that knows nothing of it is called with the streaming mode off, and the matrix
 * off or, if TPIDR2 points to where a callee would save it, on: AAPCS64, "ZA states". In the second
 * case it is left out. SVCR would tell as well, but if it is read the kernel sets up SME for the
 * thread.
 */
static uint8_t *
add_matrix_state(uint8_t *place)
{
    long length = raw1(SYS_prctl, GET_MATRIX_LENGTH);
    struct second_pointer_context *second = (struct second_pointer_context *)place;
    struct matrix_context *matrix = (struct matrix_context *)(second + 1);

    if (length <= 0) {
        return place;
    }
    *second = (struct second_pointer_context){.head = {SECOND_POINTER_MAGIC, sizeof(*second)}};
    __asm__ volatile("mrs %0, S3_3_C13_C0_5" : "=r"(second->pointer)); /* TPIDR2_EL0 */
    if (second->pointer) {
        return (uint8_t *)matrix;
    }
    *matrix = (struct matrix_context){.head = {MATRIX_MAGIC, sizeof(*matrix)}};
    matrix->vl = (uint16_t)(length & PR_SVE_VL_LEN_MASK);
    return (uint8_t *)(matrix + 1);
}

void
gencore_save_floating_point(struct gencore_thread *thread, void *area, uint64_t size)
{
    struct fpsimd_context *context = area;
    uint8_t *end = add_matrix_state(add_vector_length((uint8_t *)(context + 1)));
    uint64_t status, control;

    *(struct _aarch64_ctx *)end = (struct _aarch64_ctx){.magic = 0};
    thread->tls = gencore_thread_pointer();
    context->head.magic = FPSIMD_MAGIC;
    context->head.size = sizeof(*context);
    __asm__ volatile("mrs %0, fpsr\n\tmrs %1, fpcr" : "=r"(status), "=r"(control));
    context->fpsr = (uint32_t)status;
    context->fpcr = (uint32_t)control;
    __asm__ volatile("stp q0, q1, [%0]\n\tstp q2, q3, [%0, #32]\n\t"
                     "stp q4, q5, [%0, #64]\n\tstp q6, q7, [%0, #96]\n\t"
                     "stp q8, q9, [%0, #128]\n\tstp q10, q11, [%0, #160]\n\t"
                     "stp q12, q13, [%0, #192]\n\tstp q14, q15, [%0, #224]\n\t"
                     "stp q16, q17, [%0, #256]\n\tstp q18, q19, [%0, #288]\n\t"
                     "stp q20, q21, [%0, #320]\n\tstp q22, q23, [%0, #352]\n\t"
                     "stp q24, q25, [%0, #384]\n\tstp q26, q27, [%0, #416]\n\t"
                     "stp q28, q29, [%0, #448]\n\tstp q30, q31, [%0, #480]"
                     :
                     : "r"(context->vregs)
                     : "memory");
    thread->fp_address = (uint64_t)(uintptr_t)area;
    thread->fp_size = size;
}

/*
 * A list of records, each with magic and size, ended by a zero one: asm/sigcontext.h. If there are
 * too many for their place, one of them says where the others are: right behind the zero one.
 */
static uint64_t
size_of_records(const uint8_t *records, uint64_t room)
{
    uint64_t size = 0;

    while (size + sizeof(struct _aarch64_ctx) <= room) {
        const struct _aarch64_ctx *head = (const struct _aarch64_ctx *)(records + size);

        if (head->size == 0) {
            break;
        }
        if (head->magic == EXTRA_MAGIC) {
            const struct extra_context *extra = (const struct extra_context *)head;

            return extra->datap + extra->size - (uint64_t)(uintptr_t)records;
        }
        size += head->size;
    }
    return size;
}

void
gencore_registers_from_context(struct gencore_thread *thread, void *context)
{
    const ucontext_t *frame = context;
    const struct sigcontext *machine = (const struct sigcontext *)&frame->uc_mcontext;
    const uint8_t *records = machine->__reserved;

    for (unsigned int i = 0; i < 31; i++) {
        thread->regs[i] = machine->regs[i];
    }
    thread->regs[SP] = machine->sp;
    thread->regs[PC] = machine->pc;
    thread->regs[PSTATE] = machine->pstate;
    thread->tls = gencore_thread_pointer();
    thread->sigmask = *(const gencore_sigset *)&frame->uc_sigmask;

    thread->fp_address = (uint64_t)(uintptr_t)records;
    thread->fp_size = size_of_records(records, sizeof(machine->__reserved));
}

uint64_t
gencore_stack_pointer(const struct gencore_thread *thread)
{
    return thread->regs[SP];
}

void
gencore_registers_from_position(struct gencore_thread *thread, uint64_t pc, uint64_t sp)
{
    thread->regs[PC] = pc;
    thread->regs[SP] = sp;
}

#else
typedef int gencore_not_this_architecture;
#endif
