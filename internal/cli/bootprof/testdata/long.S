/* A guest of no known kind that enters by PVH and goes to 64-bit mode, with a stack at 4 MiB and three page tables, and exits. With
 * EARLY it dies before that. */
	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
#ifdef EARLY
	lidt none
	ud2				/* a triple fault */
none:	.quad 0
#endif
	movl $pdpt + 3, pml4
	movl $pd + 3, pdpt
	movl $0x83, pd			/* 2 MiB as they are */
	movl $0x400083, pd + 8		/* the stack's, elsewhere */
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx		/* EFER: LME */
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
	mov $0x400000, %rsp		/* of 2 to 4 MiB, which are at 4 to 6 */
	push %rsp
	push %rsp
	mov $0x3f8, %dx
	mov $'!', %al
	out %al, %dx
	mov $0x501, %dx
	xor %eax, %eax
	out %eax, %dx
1:	hlt
	jmp 1b

gdt:	.quad 0, 0x00af9b000000ffff
gdtr:	.word 15
	.long gdt

	.bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4096
