/* A program that works for three quarters of its instructions in spin called by first, and for one quarter in spin called by second. */
	.text
	.globl _start
	.type _start, @function
_start:
	xor %ebp, %ebp
	mov $40, %ebx
1:	call first
	call second
	dec %ebx
	jnz 1b
	mov $231, %eax
	xor %edi, %edi
	syscall			/* exit_group(0) */
	.size _start, . - _start

	.type first, @function
first:
	push %rbp
	mov %rsp, %rbp
	mov $1500000, %ecx
	call spin
	pop %rbp
	ret
	.size first, . - first

	.type second, @function
second:
	push %rbp
	mov %rsp, %rbp
	mov $500000, %ecx
	call spin
	pop %rbp
	ret
	.size second, . - second

	.type spin, @function
spin:
	push %rbp
	mov %rsp, %rbp
1:	dec %ecx
	jnz 1b
	pop %rbp
	ret
	.size spin, . - spin
