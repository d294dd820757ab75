/* A guest with a driver for the memory balloon, of which it tells the statistics once, as Linux's does when it starts (Virtual I/O
 * Device Version 1.2, sections 4.2.2 and 5.5). It writes a line and waits for ever. With NONE it has no driver. */

typedef unsigned short u16;
typedef unsigned u32;
typedef unsigned long long u64;

__asm__(
	".section .note.pvh, \"a\", @note\n"
	".long 4, 4, 18\n"
	".asciz \"Xen\"\n"
	".long _start\n"
	".text\n"
	".globl _start\n"
	"_start: mov $stack + 4096, %esp\n"
	"	call main\n"
	"1:	hlt\n"
	"	jmp 1b\n"
	".bss\n"
	".balign 4096\n"
	"stack:	.skip 4096\n"
	".text\n");

static struct { u64 addr; u32 len; u16 flags, next; } desc[2] __attribute__((aligned(16)));
static volatile struct { u16 flags, idx, ring[2]; } avail __attribute__((aligned(4)));
static volatile struct { u16 flags, idx; struct { u32 id, len; } ring[2]; } used __attribute__((aligned(4)));
static struct { u16 tag; u64 value; } __attribute__((packed)) stats[2];

enum { MMIO = 0xfeb00000, SLOT = 512, SLOTS = 24 };
enum { MAGIC = 0, ID = 2, FEATURES = 8, FEATURES_SELECT = 9, QUEUE = 12, NUM = 14, READY = 17, NOTIFY = 20, STATUS = 28, DESC = 32, DRIVER = 36, DEVICE = 40 };

static void driver(volatile u32 *d)
{
	d[STATUS] = 0;
	d[STATUS] = 3;
	d[FEATURES_SELECT] = 0;
	d[FEATURES] = 1 << 1; /* a queue for statistics */
	d[FEATURES_SELECT] = 1;
	d[FEATURES] = 1; /* version 1 */
	d[STATUS] = 3 | 8;
	d[QUEUE] = 2;
	d[NUM] = 2;
	d[DESC] = (u32)desc, d[DESC + 1] = 0;
	d[DRIVER] = (u32)&avail, d[DRIVER + 1] = 0;
	d[DEVICE] = (u32)&used, d[DEVICE + 1] = 0;
	d[READY] = 1;
	d[STATUS] = 3 | 8 | 4;
	stats[0].tag = 4, stats[0].value = 12345678; /* free */
	stats[1].tag = 5, stats[1].value = 66666666; /* all */
	desc[0].addr = (u32)stats, desc[0].len = sizeof stats;
	avail.idx = 1;
	__asm__ volatile("" ::: "memory");
	d[NOTIFY] = 2;
}

void main(void)
{
#ifndef NONE
	for (u32 i = 0; i < SLOTS; i++) {
		volatile u32 *d = (volatile u32 *)(MMIO + i * SLOT);
		if (d[MAGIC] == 0x74726976 && d[ID] == 5)
			driver(d);
	}
#endif
	__asm__ volatile("outb %0, %1" :: "a"((char)'!'), "d"((u16)0x3f8));
}
