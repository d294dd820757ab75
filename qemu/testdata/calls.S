/* A PVH guest whose every function executes a number of instructions that can be read off it. TestTree says how many. */

	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.text
	.globl start
	.type start, @function
start:					/* 18 */
	mov $stack_end, %esp
	lgdt gdtr
	ljmp $8, $1f
1:	mov $16, %eax
	mov %eax, %ss
	mov %eax, %ds
	mov %eax, %es
	lea on_int, %eax
	mov $idt + 0x30 * 8, %edi
	call gate
	lea on_ud, %eax
	mov $idt + 6 * 8, %edi
	call gate
	lidt idtr
	call main
	mov $0x501, %dx
	mov $20, %eax
	out %eax, %dx
	hlt
	jmp .
	.size start, . - start

	.type gate, @function
gate:					/* 7 a call */
	mov %ax, (%edi)
	movw $8, 2(%edi)
	movw $0x8e00, 4(%edi)
	shr $16, %eax
	mov %ax, 6(%edi)
	nop
	ret
	.size gate, . - gate

	.type main, @function
main:					/* 1 + 5 * 3 + 11 */
	mov $5, %esi
1:	call f
	dec %esi
	jnz 1b
	call tailer
	call pointer
	call switcher
	call jumper
	call thunked
	int $0x30
	ud2
	call recurse
	call modifier
	nop
	ret
	.size main, . - main

	.type f, @function
f:					/* 3 a call */
	call g
	call g
	ret
	.size f, . - f

	.type g, @function
g:					/* 202 a call */
	mov $100, %ecx
1:	dec %ecx
	jnz 1b
	ret
	.size g, . - g

/* A tail call: leaf returns to main. */
	.type tailer, @function
tailer:					/* 2 */
	nop
	jmp leaf
	.size tailer, . - tailer

	.type leaf, @function
leaf:					/* 3 a call */
	nop
	nop
	ret
	.size leaf, . - leaf

/* A call through a pointer. */
	.type pointer, @function
pointer:				/* 3 */
	mov $leaf, %eax
	call *%eax
	ret
	.size pointer, . - pointer

/* Two stacks. Each switch is a return on the other stack. */
	.type switcher, @function
switcher:				/* 2 + 3 * 4 + 1 */
	movl $other_end - 4, other
	mov $3, %esi
1:	call swap
	call leaf
	dec %esi
	jnz 1b
	ret
	.size switcher, . - switcher

	.type swap, @function
swap:					/* 2 a call */
	xchg %esp, other
	ret
	.size swap, . - swap

	.type coroutine, @function
coroutine:				/* 2, then 3 a turn */
	call g
	call swap
	jmp coroutine
	.size coroutine, . - coroutine

/* A jump out of three calls, as longjmp does it. */
	.type jumper, @function
jumper:					/* 6 */
	mov %esp, %ebx
	call deep
	nop
1:	call leaf
	nop
	ret
	.set landing, 1b
	.size jumper, . - jumper

	.type deep, @function
deep:					/* 1 */
	call deeper
	ret
	.size deep, . - deep

	.type deeper, @function
deeper:					/* 3 */
	mov %ebx, %esp
	mov $landing - 1, %eax
	jmp *%eax
	.size deeper, . - deeper

/* Code that changes code: the first byte of modified is a ret for the first call and a nop for the second. */
	.type modifier, @function
modifier:				/* 4 */
	call modified
	movb $0x90, modified
	call modified
	ret
	.size modifier, . - modifier

	.type modified, @function
modified:				/* 1, then 3 */
	ret
	nop
	ret
	.size modified, . - modified

/* What a retpoline does: the return address is replaced by the function to call. */
	.type thunked, @function
thunked:				/* 2 */
	call thunk
	ret
	.size thunked, . - thunked

	.type thunk, @function
thunk:					/* 3: the hlt is not executed */
	call 1f
	hlt
1:	movl $leaf, (%esp)
	ret
	.size thunk, . - thunk

	.type on_int, @function
on_int:					/* 2 */
	call leaf
	iret
	.size on_int, . - on_int

	.type on_ud, @function
on_ud:					/* 3 */
	addl $2, (%esp)
	call leaf
	iret
	.size on_ud, . - on_ud

/* 10 deep. */
	.type recurse, @function
recurse:				/* 3, and 9 * 4 + 3 below it */
	mov $10, %edx
	call 1f
	ret
1:	dec %edx
	jz 2f
	call 1b
2:	ret
	.size recurse, . - recurse

	.data
	.align 8
gdt:	.quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:	.short . - gdt - 1
	.long gdt
idtr:	.short 0x31 * 8 - 1
	.long idt
other:	.long 0
other_stack:
	.fill 1020
	.long coroutine
other_end:

	.bss
	.align 8
idt:	.skip 0x31 * 8
	.skip 0x20000			/* far from the other stack */
stack_end:
