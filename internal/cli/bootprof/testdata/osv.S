/*
 * A stand-in for an OSv kernel, which behaves as one does towards the outside: it enters by PVH, goes through functions with the
 * names of OSv's (arch/x64/loader.cc, loader.cc), prints how long its boot took, or its chart if the command line has --bootchart,
 * writes 123 to port 0x3f0 (and before that, unlike OSv, 6 and 7 to port 0xf4), runs an app that prints the command line, and resets by port 0x64 and a triple fault.
 *
 *	DEAD	resets before it has booted
 */
	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
	.type _start, @function
_start:				/* ebx: struct hvm_start_info, with the command line's address at 24 */
	mov $stack, %esp
	mov 24(%ebx), %ebp
	call premain
	call main
1:	hlt
	jmp 1b
	.size _start, . - _start

	.macro function name, millions
	.globl \name
	.type \name, @function
\name:
	mov $\millions * 500000, %ecx
1:	dec %ecx
	jnz 1b
	.endm

	function premain 1
	mov $6, %al
	out %al, $0xf4
	inc %al
	out %al, $0xf4
	ret
	.size premain, . - premain

	function main 2
	mov $banner, %esi
	mov $banner_end - banner, %ecx
	call print
#ifdef DEAD
	jmp reset
#endif
	call _Z9main_contiPPc
	ret
	.size main, . - main

	function _Z9main_contiPPc, 3
	mov %ebp, %esi
	mov $0x6f6f622d, %eax	/* "-boo" */
1:	cmpb $0, (%esi)
	je 2f
	inc %esi
	cmp %eax, (%esi)
	jne 1b
	mov $chart, %esi
	mov $chart_end - chart, %ecx
	call print
	jmp 3f
2:	mov $total, %esi
	mov $total_end - total, %ecx
	call print
3:	mov $123, %al
	mov $0x3f0, %dx
	out %al, %dx
	call _Z14do_main_threadPv
	ret
	.size _Z9main_contiPPc, . - _Z9main_contiPPc

	function _Z14do_main_threadPv, 4
	mov %ebp, %esi
	xor %ecx, %ecx
1:	cmpb $0, (%esi,%ecx)
	je 2f
	inc %ecx
	jmp 1b
2:	call print
	mov $end, %esi
	mov $1, %ecx
	call print
	.size _Z14do_main_threadPv, . - _Z14do_main_threadPv
	/* falls through */

	.type reset, @function
reset:
	mov $0xfe, %al
	out %al, $0x64
	lidt no_idt
	int3
	.size reset, . - reset

	.type print, @function
print:
	mov $0x3f8, %dx
	rep outsb
	ret
	.size print, . - print

banner:	.ascii "OSv v0.57.0\n"
banner_end:
total:	.ascii "Booted up in 12.34 ms\nCmdline: \n"
total_end:
chart:	.ascii "\tdisk read (real mode): 0.00ms, (+0.00ms)\n"
	.ascii "\t.init functions: 3.21ms, (+3.21ms)\n"
	.ascii "\tdrivers loaded: 5.50ms, (+2.29ms)\n"
	.ascii "\tTotal time: 12.34ms, (+6.84ms)\n"
chart_end:
end:	.ascii "\n"
no_idt:	.skip 6

	.bss
	.balign 4096
	.skip 4096
stack:
