/* A TCG plugin for boots: it logs the execution of chosen instructions, counts guest instructions one by one, and keeps them
 * by calling context (tree.c). Arguments:
 *
 *	out=N            descriptor of the report (or the path of a file), written as counts.go and tree.go read it
 *	count=off        only log; the total is then 0
 *	tree=on          keep calling contexts
 *	memory=on        keep which context touched a page of RAM first
 *	live=N           descriptor that each execution of a point is written to at once
 *	ram=N            descriptor of the file that backs RAM: what is in it at the start was touched by the VMM
 *	low=BYTES        how much of it lies below the hole for devices, if QEMU tells physical addresses; before version 8.2 it
 *	                 tells offsets in the file
 *	point=ADDR:MASK:CODE:FLAGS
 *	                 log this virtual address, compared under MASK; CODE is in hexadecimal what must stand there, or
 *	                 nothing; with P as FLAGS each execution begins a phase of the tree, with p the first one does
 *
 * Debian has no header package for plugins, so the part of the API that is used stands here (QEMU,
 * include/qemu/qemu-plugin.h). Version 1 adds inline to one counter; version 2, of QEMU 9.0, to one for each vCPU;
 * version 3, of QEMU 9.1, which still takes plugins of version 2, copies code bytes. */

#include "counter.h"

#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

EXPORT int qemu_plugin_version = PLUGIN_API;

#if PLUGIN_API == 1

void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *, uint64_t);

static void counting_starts(void) {}
static void count(struct qemu_plugin_insn *insn, uint64_t n)
{
	qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &instructions, n);
}

#else

struct qemu_plugin_scoreboard;
typedef struct { struct qemu_plugin_scoreboard *score; size_t offset; } qemu_plugin_u64;
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, int op, qemu_plugin_u64, uint64_t);

static qemu_plugin_u64 score;

static void counting_starts(void) { score.score = qemu_plugin_scoreboard_new(sizeof(uint64_t)); }
static void count(struct qemu_plugin_insn *insn, uint64_t n)
{
	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD_U64, score, n);
}
uint64_t counted(void) { return qemu_plugin_u64_sum(score); }

#endif

uint64_t instructions;

enum { MAX_POINTS = 256, MAX_MARKS = 1 << 16, MAX_CODE = 16 };

static struct point {
	uint64_t addr, mask;
	unsigned char code[MAX_CODE];
	unsigned ncode;
	char phase; /* P: each execution begins one; p: the next one does */
} points[MAX_POINTS];
static unsigned npoints;

static struct mark { uint64_t point, addr, instructions, nanos; } *marks;
static uint64_t nmarks, blocks;

static int out = -1, live = -1, counting = 1, tree, memory, api;

void die(const char *what)
{
	perror(what);
	_exit(1);
}

void report(const void *p, size_t n)
{
	while (n > 0) {
		ssize_t m = write(out, p, n);
		if (m <= 0)
			die("firstlight plugin: report");
		p = (const char *)p + m;
		n -= (size_t)m;
	}
}

size_t code_of(struct qemu_plugin_insn *insn, unsigned char *p, size_t max)
{
	size_t n = qemu_plugin_insn_size(insn);
	if (n > max)
		n = max;
	if (api >= 3) {
		size_t (*copy)(struct qemu_plugin_insn *, void *, size_t) = (void *)qemu_plugin_insn_data;
		return copy(insn, p, n);
	}
	memcpy(p, qemu_plugin_insn_data(insn), n);
	return n;
}

/* What an execution callback gets: which point it was, and where. */
struct site { struct point *point; uint64_t addr; };

/* Bytes that the guest writes to I/O ports. The devices there append them to logs while the instruction executes, so a log that has
 * grown since was written to by the last instruction that writes to ports. A log is a point after the others. Its
 * first few bytes begin phases. */

enum { MAX_LOGS = 32, LOG_PHASES = 8 };
static struct { int fd; off_t size; } logs[MAX_LOGS];
static unsigned nlogs;
static struct { uint64_t addr, instructions, nanos; } outs; /* the last one */
int outs_pending;

static uint64_t nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void outs_done(void)
{
	outs_pending = 0;
	for (unsigned i = 0; i < nlogs; i++) {
		off_t size = lseek(logs[i].fd, 0, SEEK_END);
		for (; logs[i].size < size; logs[i].size++) {
			if (nmarks == MAX_MARKS)
				return;
			marks[nmarks++] = (struct mark){ npoints + i, outs.addr, outs.instructions, outs.nanos };
			if (tree && logs[i].size < LOG_PHASES)
				tree_phase(nmarks - 1);
		}
	}
}

static void outs_begins(unsigned vcpu, void *udata)
{
	(void)vcpu;
	if (outs_pending)
		outs_done();
	outs.addr = (uint64_t)(uintptr_t)udata;
	outs.instructions = counted() + (uint64_t)counting;
	outs.nanos = nanoseconds();
	outs_pending = 1;
}

static int writes_port(const unsigned char *p, size_t n)
{
	size_t i = operation(p, n);
	return i < n && ((p[i] & 0xf6) == 0xe6 || (p[i] & 0xfe) == 0x6e); /* e6, e7, ee, ef, 6e, 6f */
}

/* It runs before the inline add of its own instruction, because it was registered before that. */
static void reached(unsigned vcpu, void *udata)
{
	struct site *s = udata;
	(void)vcpu;
	if (outs_pending)
		outs_done();
	struct mark m = { (uint64_t)(s->point - points), s->addr, counted(), nanoseconds() };
	if (live >= 0 && write(live, &m, sizeof m) != (ssize_t)sizeof m)
		live = -1; /* nobody listens any more */
	if (nmarks < MAX_MARKS)
		marks[nmarks++] = m;
	if (tree && (s->point->phase == 'P' || s->point->phase == 'p')) {
		if (s->point->phase == 'p')
			s->point->phase = 0;
		tree_phase(nmarks - 1);
	}
}

/* watch registers the points that an instruction is, and tells whether it is any. Code is known up to the block's end only. */
static int watch(struct qemu_plugin_insn *insn, uint64_t vaddr, const unsigned char *code, size_t ncode)
{
	int any = 0;
	for (unsigned j = 0; j < npoints; j++) {
		struct point *p = &points[j];
		if ((p->addr ^ vaddr) & p->mask || memcmp(p->code, code, p->ncode < ncode ? p->ncode : ncode))
			continue;
		struct site *s = malloc(sizeof *s);
		if (!s)
			die("firstlight plugin");
		*s = (struct site){ p, vaddr };
		qemu_plugin_register_vcpu_insn_exec_cb(insn, reached, CB_NO_REGS, s);
		any = 1;
	}
	return any;
}

/* steady tells whether the next instruction certainly follows: this one has registers and constants only, and no fault. */
static int steady(const unsigned char *p, size_t n)
{
	size_t i = operation(p, n);
	if (i >= n)
		return 0;
	unsigned op = p[i], more = i + 1 < n ? p[i + 1] : 0;
	int registers = more >= 0xc0;
	if (op < 0x40 && op != 0x0f)
		return (op & 7) < 4 ? registers : (op & 7) < 6;
	switch (op) {
	case 0x63: case 0x69: case 0x6b: case 0x80: case 0x81: case 0x83: case 0x84: case 0x85: case 0x86: case 0x87:
	case 0x88: case 0x89: case 0x8a: case 0x8b: case 0xc0: case 0xc1: case 0xc6: case 0xc7: case 0xd0: case 0xd1: case 0xd2: case 0xd3:
		return registers;
	case 0x8d:
		return !registers;
	case 0x90: case 0x98: case 0x99: case 0xa8: case 0xa9:
		return 1;
	case 0xf6: case 0xf7: /* not the divisions */
		return registers && (more >> 3 & 7) < 6;
	case 0xfe: case 0xff:
		return registers && (more >> 3 & 7) < 2;
	case 0x0f:
		if (more == 0x1e || more == 0x1f)
			return 1;
		if ((more & 0xf0) == 0x40 || (more & 0xf0) == 0x90 || more == 0xaf || (more & 0xf6) == 0xb6)
			return i + 2 < n && p[i + 2] >= 0xc0;
		return (more & 0xf8) == 0xc8; /* bswap */
	}
	return op >= 0xb0 && op < 0xc0;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	unsigned char code[MAX_BLOCK_CODE];
	size_t at = 0, end = 0, n = qemu_plugin_tb_n_insns(tb);
	(void)id;
	blocks++;
	for (size_t i = 0; i < n; i++)
		end += code_of(qemu_plugin_tb_get_insn(tb, i), code + end, sizeof code - end);
	if (tree)
		tree_block(tb, n, code, end);
	/* Instructions are counted when they begin, each together with those after it that certainly follow. */
	struct qemu_plugin_insn *first = 0;
	size_t follow = 0;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t size = qemu_plugin_insn_size(insn);
		int watched = watch(insn, qemu_plugin_insn_vaddr(insn), code + at, end - at);
		if (nlogs && writes_port(code + at, end - at)) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, outs_begins, CB_NO_REGS, (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
			watched = 1;
		}
		/* QEMU takes back an instruction that goes on in the next page, with what was asked for it, but counts it as one. */
		watched |= i + 1 == n && (qemu_plugin_insn_vaddr(insn) & 0xfff) > 0x1000 - 16;
		if (watched && follow && counting) {
			count(first, follow);
			follow = 0;
		}
		if (!follow)
			first = insn;
		follow++;
		if (counting && (i + 1 == n || !tree || at + size > end || !steady(code + at, size))) {
			count(first, follow);
			follow = 0;
		}
		at = at + size < end ? at + size : end;
	}
}

/* The VMM's proportional and resident set sizes in bytes; 0 if the kernel does not say. */
static void set_sizes(uint64_t *pss, uint64_t *rss)
{
	uint64_t kib;
	char line[256];
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	if (!f)
		return;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
			*pss = kib * 1024;
		else if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			*rss = kib * 1024;
	fclose(f);
}

static void ended(qemu_plugin_id_t id, void *unused)
{
	(void)id, (void)unused;
	if (outs_pending)
		outs_done();
	uint64_t header[7] = { 0, counted(), blocks, 0, nmarks, 0, 0 };
	if (tree)
		tree_end();
	header[5] = tree;
	set_sizes(&header[3], &header[6]);
	report(header, sizeof header);
	report(marks, nmarks * sizeof *marks);
	if (tree)
		tree_report();
	if (pwrite(out, "FLPLUG03", 8, 0) != 8) /* last: a report without it is of a run that did not end in order */
		die("firstlight plugin: report");
}

static int number(const char *s, char stop, const char **end, uint64_t *n)
{
	char *e;
	*n = strtoull(s, &e, 0);
	*end = e + 1;
	return e != s && *e == stop;
}

static int point(const char *s)
{
	struct point *p = &points[npoints];
	if (npoints == MAX_POINTS || !number(s, ':', &s, &p->addr) || !number(s, ':', &s, &p->mask))
		return 0;
	for (; *s != ':'; s += 2) {
		unsigned byte;
		if (p->ncode == MAX_CODE || sscanf(s, "%2x", &byte) != 1)
			return 0;
		p->code[p->ncode++] = (unsigned char)byte;
	}
	p->phase = s[1];
	npoints++;
	return 1;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	int ram = -1;
	uint64_t low = 0;
	api = info->version.cur;
	for (int i = 0; i < argc; i++) {
		const char *end;
		uint64_t n;
		if (!strncmp(argv[i], "out=", 4)) {
			out = number(argv[i] + 4, 0, &end, &n) ? (int)n : open(argv[i] + 4, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		} else if (!strncmp(argv[i], "ram=", 4) && number(argv[i] + 4, 0, &end, &n)) {
			ram = (int)n;
		} else if (!strncmp(argv[i], "low=", 4) && number(argv[i] + 4, 0, &end, &n)) {
			low = n;
		} else if (!strncmp(argv[i], "live=", 5) && number(argv[i] + 5, 0, &end, &n)) {
			live = (int)n;
		} else if (!strncmp(argv[i], "log=", 4) && nlogs < MAX_LOGS && number(argv[i] + 4, 0, &end, &n)) {
			logs[nlogs++].fd = (int)n;
		} else if (!strcmp(argv[i], "count=off")) {
			counting = 0;
		} else if (!strcmp(argv[i], "tree=on")) {
			tree = 1;
		} else if (!strcmp(argv[i], "memory=on")) {
			memory = 1;
		} else if (strncmp(argv[i], "point=", 6) || !point(argv[i] + 6)) {
			fprintf(stderr, "firstlight plugin: bad argument %s\n", argv[i]);
			return 1;
		}
	}
	if (out < 0) {
		fprintf(stderr, "firstlight plugin: no report to write: out=N\n");
		return 1;
	}
	marks = reserve(MAX_MARKS * sizeof *marks);
	counting_starts();
	if (tree)
		tree_begin(memory, ram, low);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, 0);
	return 0;
}
