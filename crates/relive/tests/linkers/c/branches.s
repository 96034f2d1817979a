// Short branches of AArch64, to another file: compilers make none.
    .text
    .globl short_branches
short_branches:
    b.eq extf
    cbz x0, extf
    cbnz w1, weakimp
    tbz x0, #3, extf
    tbnz w2, #1, weakimp
    ldr x3, other_text
    adr x4, extf
    b extf
    bl weakimp
    ret
    .reloc short_branches, R_AARCH64_NONE, extf
    .globl other_text
    .section .text.other, "ax"
    .p2align 3
other_text:
    .xword 1
    // Every part of an address.
    movz x0, #:abs_g3:global
    movk x0, #:abs_g2_nc:global
    movk x0, #:abs_g1_nc:global
    movk x0, #:abs_g0_nc:global
    movz x0, #:prel_g3:global
    movk x0, #:prel_g2_nc:global
    movk x0, #:prel_g1_nc:global
    movk x0, #:prel_g0_nc:global
    movz x0, #:tprel_g1:in_data
    movk x0, #:tprel_g0_nc:in_data
    add x0, x0, #:tprel_hi12:in_data
    ldrb w1, [x0, #:tprel_lo12_nc:in_data]
    ldr w1, [x0, #:tprel_lo12_nc:in_data]
    ldrb w1, [x0, #:lo12:global]
    ldrh w1, [x0, #:lo12:global]
    ldr q1, [x0, #:lo12:aligned_data]
    .data
    .p2align 4
    .globl aligned_data
aligned_data:
    .quad 1, 2
    .word global - .
    .hword aligned_data - .
