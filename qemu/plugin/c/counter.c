/* A TCG plugin that counts guest instructions one by one, and logs how many there were before each execution of the
 * instructions at given addresses. Arguments:
 *
 *	out=N      descriptor of the report (or the path of a file), written as counts.go reads it
 *	addr=ADDR  log this virtual address; repeats
 *
 * Debian has no header package for plugins, so the part of the API that is used stands here (QEMU,
 * include/qemu/qemu-plugin.h). Version 1 adds inline to one counter; version 2, of QEMU 9.0, to one for each vCPU. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;

enum { CB_NO_REGS = 0, INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = PLUGIN_API;

#if PLUGIN_API == 1

void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *, uint64_t);

static uint64_t instructions;

static void counting_starts(void) {}
static void count(struct qemu_plugin_insn *insn)
{
	qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &instructions, 1);
}
static uint64_t counted(void) { return instructions; }

#else

struct qemu_plugin_scoreboard;
typedef struct { struct qemu_plugin_scoreboard *score; size_t offset; } qemu_plugin_u64;
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, int op, qemu_plugin_u64, uint64_t);

static qemu_plugin_u64 instructions;

static void counting_starts(void) { instructions.score = qemu_plugin_scoreboard_new(sizeof(uint64_t)); }
static void count(struct qemu_plugin_insn *insn)
{
	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD_U64, instructions, 1);
}
static uint64_t counted(void) { return qemu_plugin_u64_sum(instructions); }

#endif

enum { MAX_ADDRS = 64, MAX_MARKS = 1 << 16, HEADER = 40 };

static int out = -1;
static uint64_t addrs[MAX_ADDRS];
static unsigned naddrs;
static uint64_t blocks, marks;

static void put(const void *p, size_t n, off_t at)
{
	if (pwrite(out, p, n, at) != (ssize_t)n) {
		perror("firstlight plugin: report");
		_exit(1);
	}
}

/* It runs before the inline add of its own instruction, because it was registered before that. */
static void reached(unsigned vcpu, void *addr)
{
	uint64_t mark[2] = { *(uint64_t *)addr, counted() };
	(void)vcpu;
	if (marks < MAX_MARKS)
		put(mark, sizeof mark, HEADER + (off_t)sizeof mark * marks++);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	(void)id;
	blocks++;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t vaddr = qemu_plugin_insn_vaddr(insn);
		for (unsigned j = 0; j < naddrs; j++)
			if (addrs[j] == vaddr)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, reached, CB_NO_REGS, &addrs[j]);
		count(insn);
	}
}

/* The VMM's proportional set size in bytes; 0 if the kernel does not say. */
static uint64_t pss(void)
{
	uint64_t kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static void ended(qemu_plugin_id_t id, void *unused)
{
	uint64_t header[5] = { 0, counted(), blocks, pss(), marks };
	(void)id, (void)unused;
	put(header, sizeof header, 0);
	put("FLCOUNT1", 8, 0);
}

static int number(const char *s, uint64_t *n)
{
	char *end;
	*n = strtoull(s, &end, 0);
	return end != s && *end == 0;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		uint64_t n;
		if (!strncmp(argv[i], "out=", 4)) {
			out = number(argv[i] + 4, &n) ? (int)n : open(argv[i] + 4, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		} else if (!strncmp(argv[i], "addr=", 5) && number(argv[i] + 5, &n) && naddrs < MAX_ADDRS) {
			addrs[naddrs++] = n;
		} else {
			fprintf(stderr, "firstlight plugin: bad argument %s\n", argv[i]);
			return 1;
		}
	}
	if (out < 0) {
		fprintf(stderr, "firstlight plugin: no report to write: out=N\n");
		return 1;
	}
	counting_starts();
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, 0);
	return 0;
}
