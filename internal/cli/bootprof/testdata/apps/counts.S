/* A program whose every function executes a number of instructions that can be read off it. */
	.text
	.globl _start
	.type _start, @function
_start:				/* 2 + 7 * 3 + 3 */
	mov $7, %ebx
	xor %ebp, %ebp
1:	call outer
	dec %ebx
	jnz 1b
	mov $231, %eax
	xor %edi, %edi
	syscall			/* exit_group(0) */
	.size _start, . - _start

	.type outer, @function
outer:				/* 3 a call */
	call inner
	call inner
	ret
	.size outer, . - outer

	.type inner, @function
inner:				/* 2002 a call */
	mov $1000, %ecx
1:	dec %ecx
	jnz 1b
	ret
	.size inner, . - inner
