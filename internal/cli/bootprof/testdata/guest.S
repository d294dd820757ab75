/*
 * A guest that keeps docs/guest-abi.md: enough of a kernel to boot in a test. It enters by PVH in 32-bit mode, writes its
 * marks and its boot record, a text on the serial port, and ends as it is told:
 *
 *	HOW, CODE	the end that it reports (1, 0)
 *	NATIVE=0	no notes of ours and no boot record: somebody else's kernel
 *	MARKS=0		no marks either
 *	BYTES=N		N bytes of output after the text
 *	SILENT		no output at all
 *	NAMED		a mark called "listening" after the output
 *	HANG		waits for ever in the end, HANG=2 before the app's entry
 *	RESET		resets before the app's end, by a triple fault
 */
#ifndef HOW
#define HOW 1
#endif
#ifndef CODE
#define CODE 0
#endif
#ifndef NATIVE
#define NATIVE 1
#endif
#ifndef MARKS
#define MARKS 1
#endif
#ifndef BYTES
#define BYTES 0
#endif
#ifndef HANG
#define HANG 0
#endif

	.section .note.pvh, "a", @note
	.long 4, 8, 18
	.asciz "Xen"
	.quad _start
#if NATIVE
	.long 11, 8192, 1
	.asciz "Firstlight"
	.byte 0
	.skip 8192
	.long 11, 24, 2
	.asciz "Firstlight"
	.byte 0
	.quad record, 4096, mark_insn
	.long 11, 6, 3
	.asciz "Firstlight"
	.byte 0
	.ascii "abi=1\n"
	.balign 4
#endif

	.text
	.code32
	.globl _start
_start:
	mov $stack, %esp
	rdtsc
	mov %eax, record+24
	mov %edx, record+28
	movl $0x4f424c46, record	/* FLBO */
	movl $0x3152544f, record+4	/* OTR1 */
	mov $1, %bl
	call mark
	call work
	mov $2, %bl
	call mark
	mov $3, %bl
	call mark
	call work
#if HANG == 2
	jmp hang
#endif
	mov $4, %bl
	call mark
	call work
#ifndef SILENT
	mov $5, %bl
	call mark
	mov $0x3f8, %dx
	mov $text, %esi
	mov $text_end - text, %ecx
	rep outsb
#if BYTES
	mov $'x', %al
	mov $BYTES, %ecx
1:	out %al, %dx
	loop 1b
#endif
#endif
#ifdef NAMED
	mov $7, %bl
	call mark
	mov $named, %esi
	mov $10, %ebp
1:	lodsb
	mov %al, %bl
	call mark_byte
	dec %ebp
	jnz 1b
#endif
#if HANG == 1
	jmp hang
#endif
#ifdef RESET
	lidt no_idt
	int3
#endif
	movl $HOW, record+12
	movl $CODE, record+16
	mov $6, %bl
	call mark
	mov $HOW, %bl
	call mark_byte
	mov $CODE, %bl
	call mark_byte
	mov $0x501, %dx
	mov $CODE, %eax
	out %eax, %dx
hang:	cli
	hlt
	jmp hang

/* mark writes the mark in bl, and notes it in the boot record. */
mark:
	rdtsc
	mov record+8, %ecx
	shl $4, %ecx
	movzbl %bl, %edi
	mov %edi, record+128(%ecx)
	mov %eax, record+136(%ecx)
	mov %edx, record+140(%ecx)
	incl record+8
mark_byte:
#if MARKS
	mov $0x3f0, %dx
	mov %bl, %al
mark_insn:
	out %al, %dx
#endif
	ret

/* work executes two million instructions or so. */
work:
	mov $1000000, %ecx
1:	dec %ecx
	jnz 1b
	ret

text:	.ascii "hello from the guest\n"
text_end:
named:	.ascii "\x09listening"
no_idt:	.skip 6

	.bss
	.balign 4096
record:	.skip 4096
	.skip 4096
stack:
