/* What counter.c and tree.c share: the part of QEMU's plugin API that they use, and each other. */

#define _GNU_SOURCE

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
struct qemu_info {
	const char *target_name;
	struct { int min, cur; } version;
};

enum { CB_NO_REGS = 0, INLINE_ADD_U64 = 0, MEM_R = 1, MEM_W = 2, MEM_RW = 3 };

typedef void mem_cb(unsigned vcpu, qemu_plugin_meminfo_t, uint64_t vaddr, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem_cb *, int flags, int rw, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t, uint64_t vaddr);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *);

#define EXPORT __attribute__((visibility("default")))

enum { MAX_BLOCK_CODE = 8192 }; /* QEMU ends a block after 512 instructions or at the end of the second page */

/* counter.c */

#pragma GCC visibility push(hidden)

extern uint64_t instructions;
#if PLUGIN_API == 1
static inline uint64_t counted(void) { return instructions; }
#else
uint64_t counted(void); /* by all vCPUs */
#endif

void die(const char *what);
void report(const void *p, size_t n);

/* reserve returns zeroed memory that costs nothing until it is used. */
static inline void *reserve(size_t n)
{
	void *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		die("firstlight plugin: memory");
	return p;
}

/* operation returns the offset of an instruction's opcode. 0x40 to 0x4f are prefixes where something follows them: in code of
 * 16 and 32 bits they are instructions of one byte. */
static inline size_t operation(const unsigned char *p, size_t n)
{
	size_t i = 0;
	while (i + 1 < n && (p[i] == 0x66 || p[i] == 0x67 || (p[i] & 0xe7) == 0x26 || (p[i] & 0xfe) == 0x64 || p[i] == 0xf0 || (p[i] & 0xfe) == 0xf2))
		i++;
	if (i + 1 < n && (p[i] & 0xf0) == 0x40)
		i++;
	return i;
}

/* Outs are instructions that write to I/O ports. One is done before the next block, and before an execution is noted. */
extern int outs_pending;
void outs_done(void);

/* tree.c */

void tree_begin(int memory, int ram, uint64_t low);
void tree_block(struct qemu_plugin_tb *, size_t n, const unsigned char *code, size_t ncode);
void tree_phase(uint64_t mark);
void tree_end(void);
void tree_report(void);

#pragma GCC visibility pop
