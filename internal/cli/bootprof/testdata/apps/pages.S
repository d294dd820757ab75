/* Fills as many pages with one pattern, and as many others with zeros, as its first two arguments say: a digit each, of 16 pages. Its
 * text is two pages, of which it executes one. */
	.globl _start
_start:
	mov (%rsp), %rax		/* argc */
	cmp $3, %rax
	jb done
	lea pattern(%rip), %rdi
	mov 16(%rsp), %rsi
	mov $0x6c72616521, %rax
	call fill
	lea zeros(%rip), %rdi
	mov 24(%rsp), %rsi
	xor %eax, %eax
	call fill
done:
	mov $231, %eax			/* exit_group */
	xor %edi, %edi
	syscall

fill:					/* digit at rsi: rdi, with rax */
	movzbl (%rsi), %ecx
	sub $'0', %ecx
	shl $13, %ecx			/* words of 16 pages */
	cld
	rep stosq
	ret

	.balign 4096
	.fill 512, 8, 0x1122334455667788
	.balign 4096

	.data
	.quad 7
	.bss
	.balign 4096
pattern:
	.skip 9 * 16 * 4096
zeros:
	.skip 9 * 16 * 4096
