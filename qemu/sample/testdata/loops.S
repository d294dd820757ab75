/* A PVH guest that spends its time in loops of known lengths, in 64-bit mode, with pages of 4 KiB, 2 MiB and 1 GiB: half of it in half,
   three tenths in third, two tenths in bare, which has no frame. LA57 makes it use five levels of page tables. */

	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.bss
	.balign 4096
pml5:	.skip 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
pt:	.skip 4096
	.skip 4096
stack_end:

	.text
	.code32
	.globl start
start:
	mov $stack_end, %esp
	movl $pml4 + 7, pml5
	movl $pdpt + 7, pml4
	movl $pd + 7, pdpt
	movl $pt + 7, pd		/* 0 to 2 MiB by 4 KiB */
	movl $0x200087, pd + 8		/* 2 to 4 MiB at once */
	movl $0x87, pdpt + 8		/* 1 to 2 GiB is 0 to 1 GiB again */
	xor %ecx, %ecx
1:	mov %ecx, %eax
	shl $12, %eax
	or $7, %eax
	mov %eax, pt(, %ecx, 8)
	inc %ecx
	cmp $512, %ecx
	jne 1b
	mov $pml4, %ebx
	mov $0x20, %eax			/* PAE */
#ifdef LA57
	mov $pml5, %ebx
	or $0x1000, %eax
#endif
	mov %eax, %cr4
	mov %ebx, %cr3
	mov $0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	lgdt gdtr
	ljmp $8, $long

	.code64
long:
	mov $0x40000000, %rax		/* the stack lies in the pages of 1 GiB */
	lea stack_end(%rax), %rsp
	xor %ebp, %ebp
	call main
	mov $0x501, %dx
	mov $20, %eax
	out %eax, %dx
1:	hlt
	jmp 1b

	.macro function name
	.globl \name
	.type \name, @function
\name:
	.endm

	/* Each multiplication waits for the one before, so the time does not depend on how the host lays out its code. */
	.macro loop n
	mov $\n, %ecx
1:	.rept 10
	imul %eax, %eax
	.endr
	dec %ecx
	jnz 1b
	.endm

	function main
	push %rbp
	mov %rsp, %rbp
	push %rbx
	push %rbx
	mov $ROUNDS, %ebx
1:	call caller
	lea third(%rip), %rax
	call *%rax
	dec %ebx
	jnz 1b
	pop %rbx
	pop %rbx
	pop %rbp
	ret
	.size main, . - main

	function caller
	push %rbp
	mov %rsp, %rbp
	call half
	call bare
	pop %rbp
	ret
	.size caller, . - caller

	function half
	push %rbp
	mov %rsp, %rbp
	loop 5000
	pop %rbp
	ret
	.size half, . - half

	function third
	push %rbp
	mov %rsp, %rbp
	loop 3000
	pop %rbp
	ret
	.size third, . - third

	function bare
	loop 2000
	ret
	.size bare, . - bare

	.balign 8
gdt:	.quad 0, 0x00af9a000000ffff
gdtr:	.word . - gdt - 1
	.long gdt
