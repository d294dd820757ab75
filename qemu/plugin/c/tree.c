/* Guest instructions by calling context.
 *
 * A node is a context: the call (or interrupt, or system call) at an address, made in the context of its parent. A cell is a
 * block executed in a node; what was executed between the starts of two blocks belongs to the first one's cell, so that
 * every instruction is in exactly one cell, whatever interrupts a block.
 *
 * Calls and returns are read off the code. Where a return goes is looked up by the address of its stack slot: stacks may be
 * switched in any way, by any kernel, coroutine or goroutine, and each return finds the context that its call was made in.
 * Version 1 of the plugin API shows no registers, but it shows the address of each memory access. */

#include "counter.h"

enum kind {
	GOES_ON, /* or jumps to where its code says */
	JUMPS,   /* to where only its operand says */
	CALLS,
	RETURNS,
	ENTERS, /* the kernel: a system call, a software interrupt */
	LEAVES, /* it: iret, sysret, sysexit */
};

/* What is looked at when a block is executed comes first, and fits into a line of the processor's cache. */
struct block {
	uint64_t pc;
	uint64_t next[2];    /* where it goes of its own; NOWHERE if that cannot be told */
	uint64_t spent;      /* instructions of the cell since it was executed in another, or since the phase began */
	uint32_t node, cell; /* the cell of the node in which it was executed last */
	uint32_t n, id;
	uint8_t cpu; /* that executed it last */
	uint8_t kind, ncode;
	uint32_t caller;    /* the context in which its call was made last */
	uint32_t callee;    /* and the one that it led to; 0: not known */
	uint64_t end, site; /* site: its last instruction */
	unsigned char code[16];
	struct block *same; /* next of the same hash */
};

struct node {
	uint32_t parent, trap; /* trap: the innermost node from an interrupt or system call; itself or above */
	uint16_t depth, traps, from_trap, pad;
	uint32_t pad2;
	uint64_t site;  /* address of the call, or of the block that was interrupted */
	uint64_t first; /* instructions before it was first there */
	union {
		uint64_t ret;       /* where the call returns to */
		struct block *from; /* what was interrupted */
	} u;
};

struct cell {
	uint32_t node, block; /* block: its number, and above CPU_SHIFT the vCPU's */
	uint64_t count;
	uint32_t next; /* the cell that was entered after it last time; cells that follow each other are mostly neighbours */
};

/* A frame is what a call left on a stack. */
struct frame {
	uint64_t ret;    /* 0: none */
	uint64_t caller; /* slot of the caller's own frame */
	uint32_t node, callee;
};

struct cpu {
	struct block *prev;
	uint64_t before; /* instructions before prev */
	uint64_t slot;   /* that prev's call wrote or its return read */
	uint64_t frame;  /* slot of the frame we are in; 0: not known */
	uint32_t node;
	int fresh;  /* an interrupt: the stack above is not ours to look at */
	int jumped; /* since the last call or return, to where only an operand said */
};

struct logged { uint32_t cell, pages; uint64_t count; };

#define NOWHERE (~UINT64_C(0))

enum {
	MAX_CPUS = 256,
	CPU_SHIFT = 24,
	MAX_NODES = 1 << 24,
	MAX_CELLS = 1 << 26,
	MAX_LOG = 1 << 27,
	MAX_PHASES = 64,
	MAX_DEPTH = 2048,
	MAX_TRAPS = 8,
	MAX_STACK_PAGES = 1 << 15,
	FRAMES = 512, /* of a page of stack */
	LOOK = 64,    /* contexts up, for one that a jump may go back to */
	STACK = 64 << 10,
};

static struct cpu cpus[MAX_CPUS];
static struct node *nodes;
static struct cell *cells;
static uint32_t *pages; /* of RAM that were touched first, by cell */
static struct logged *entries;
static struct { uint64_t mark, entries; } phases[MAX_PHASES];
static uint64_t nnodes, ncells, nentries, nphases, lost, loaded;
static struct block before_all, *active = &before_all; /* the block that executes */
static uint8_t running; /* the vCPU that does */
static uint64_t last;   /* instructions that are in cells already */

static uint64_t mix(uint64_t a, uint64_t b)
{
	a ^= b * UINT64_C(0x9e3779b97f4a7c15);
	a ^= a >> 32;
	a *= UINT64_C(0xd6e8feb86659fd93);
	return a ^ a >> 29;
}

/* An index finds numbers by hash: open addressing, 0 for none, so what is numbered 0 is in no index. */
struct index { uint32_t *at; uint64_t size, used; };

static void grow(struct index *x, uint64_t (*hash)(uint32_t))
{
	struct index y = { 0, x->size ? x->size * 2 : 1 << 12, x->used };
	y.at = calloc(y.size, sizeof *y.at);
	if (!y.at)
		die("firstlight plugin");
	for (uint64_t i = 0; i < x->size; i++)
		if (x->at[i]) {
			uint64_t h = hash(x->at[i]);
			while (y.at[h & (y.size - 1)])
				h++;
			y.at[h & (y.size - 1)] = x->at[i];
		}
	free(x->at);
	*x = y;
}

static struct index node_index, cell_index;

static uint64_t node_key(uint32_t parent, uint64_t site, int trap) { return mix(site, (uint64_t)parent << 1 | (uint64_t)trap); }
static uint64_t hash_node(uint32_t i) { return node_key(nodes[i].parent, nodes[i].site, nodes[i].from_trap); }
static uint64_t cell_key(uint32_t node, uint32_t block) { return mix(node, block + UINT64_C(1)); }
static uint64_t hash_cell(uint32_t i) { return cell_key(cells[i].node, cells[i].block); }

/* child returns the context of a call at site, or of an interrupt. Contexts too deep or too many are their parent's. */
static uint32_t child(uint32_t parent, uint64_t site, int trap)
{
	if (node_index.used * 2 >= node_index.size)
		grow(&node_index, hash_node);
	uint64_t h = node_key(parent, site, trap);
	for (;; h++) {
		uint32_t i = node_index.at[h & (node_index.size - 1)];
		if (!i)
			break;
		if (nodes[i].parent == parent && nodes[i].site == site && nodes[i].from_trap == trap)
			return i;
	}
	struct node *p = &nodes[parent];
	if (p->depth == MAX_DEPTH || p->traps + trap > MAX_TRAPS || nnodes == MAX_NODES) {
		lost++;
		return parent;
	}
	uint32_t i = (uint32_t)nnodes++;
	nodes[i] = (struct node){ .parent = parent, .trap = trap ? i : p->trap, .depth = p->depth + 1,
		.traps = p->traps + (uint16_t)trap, .from_trap = (uint16_t)trap, .site = site, .first = last };
	node_index.at[h & (node_index.size - 1)] = i;
	node_index.used++;
	return i;
}

static uint32_t cell_of(uint32_t node, uint32_t block)
{
	if (cell_index.used * 2 >= cell_index.size)
		grow(&cell_index, hash_cell);
	uint64_t h = cell_key(node, block);
	for (;; h++) {
		uint32_t i = cell_index.at[h & (cell_index.size - 1)];
		if (!i)
			break;
		if (cells[i].node == node && cells[i].block == block)
			return i;
	}
	if (ncells == MAX_CELLS) {
		lost++;
		return 0;
	}
	uint32_t i = (uint32_t)ncells++;
	cells[i] = (struct cell){ .node = node, .block = block };
	cell_index.at[h & (cell_index.size - 1)] = i;
	cell_index.used++;
	return i;
}

/* Frames, by page of stack. */

static struct stack_page { uint64_t page; struct frame *frames; } stack_pages[MAX_STACK_PAGES * 2], *last_page = stack_pages;
static unsigned nstack_pages;

static struct frame *frame_at(uint64_t slot, int make)
{
	uint64_t page = (slot >> 12) + 1; /* 0 is none */
	if (last_page->page != page) {
		uint64_t h = mix(page, 0);
		struct stack_page *s;
		for (; s = &stack_pages[h % (MAX_STACK_PAGES * 2)], s->page && s->page != page; h++)
			;
		if (!s->page) {
			if (!make || nstack_pages == MAX_STACK_PAGES)
				return 0;
			nstack_pages++;
			s->page = page;
			s->frames = calloc(FRAMES, sizeof *s->frames);
			if (!s->frames)
				die("firstlight plugin");
		}
		last_page = s;
	}
	return &last_page->frames[slot >> 3 & (FRAMES - 1)];
}

/* Sets of code addresses: a slot for each hash, the latest wins. Losing one costs a wrong parent, not a count. Of return
 * addresses only the hashes are kept, which can be taken for others but not lost. */

enum { SET = 1 << 16, RETURNS_SET = 1 << 22, CALLERS = 1 << 18 };
static uint64_t handlers[SET];
static unsigned char returns[RETURNS_SET / 8];
static struct { uint64_t pc; uint32_t node; } resumes[SET];

static void note(uint64_t *set, uint64_t pc) { set[mix(pc, 1) & (SET - 1)] = pc; }
static struct block *callers[CALLERS]; /* by the address that they are returned to */

static void note_return(struct block *b)
{
	uint64_t h = mix(b->end, 3);
	returns[h % RETURNS_SET / 8] |= (unsigned char)(1 << h % 8);
	callers[h % CALLERS] = b;
}
static int maybe_return(uint64_t pc)
{
	uint64_t h = mix(pc, 3);
	return returns[h % RETURNS_SET / 8] >> h % 8 & 1;
}
static int noted(const uint64_t *set, uint64_t pc) { return set[mix(pc, 1) & (SET - 1)] == pc; }

static void resumes_at(uint64_t pc, uint32_t node)
{
	if (pc != NOWHERE) {
		resumes[mix(pc, 2) & (SET - 1)].pc = pc;
		resumes[mix(pc, 2) & (SET - 1)].node = node;
	}
}

/* Control flow. */

static int within(const struct block *b, uint64_t pc) { return pc >= b->pc && pc <= b->end; }

/* Code of 16 bits has addresses that wrap where the plugin cannot see it. */
static int wraps(const struct block *b, uint64_t pc)
{
	return pc < UINT64_C(1) << 32 && (((pc ^ b->next[0]) & 0xffff) == 0 || ((pc ^ b->next[1]) & 0xffff) == 0);
}

static void interrupted(struct cpu *c, struct block *p, uint64_t handler)
{
	note(handlers, handler);
	resumes_at(p->next[0], c->node);
	resumes_at(p->next[1], c->node);
	resumes_at(p->pc, c->node);
	uint32_t i = child(c->node, p->pc, 1);
	if (i != c->node)
		nodes[i].u.from = p;
	c->node = i;
	c->frame = 0;
	c->fresh = 1;
}

static int went_back(struct cpu *c, uint64_t pc)
{
	uint32_t i = c->node;
	for (int n = 0; i && n < LOOK; n++, i = nodes[i].parent)
		if (!nodes[i].from_trap && nodes[i].u.ret == pc) {
			c->node = nodes[i].parent;
			c->frame = 0;
			c->fresh = c->jumped = 0;
			return 1;
		}
	return 0;
}

/* called_last goes to the context in which the call that returns to pc was made last. */
static int called_last(struct cpu *c, uint64_t pc)
{
	struct block *b = callers[mix(pc, 3) % CALLERS];
	if (!b || b->end != pc)
		return 0;
	c->node = b->caller;
	c->frame = 0;
	c->fresh = 1;
	c->jumped = 0;
	return 1;
}

static void called(struct cpu *c, struct block *p)
{
	uint64_t slot = c->slot;
	/* A call far from the last one's frame is made on another stack. If it was jumped to, it is a thread's or a coroutine's
	 * that no call was seen on: a context of its own. If not, a function has switched stacks for its own use. */
	if (c->frame && c->jumped && !c->fresh && (slot >= c->frame || c->frame - slot > STACK))
		c->node = 0;
	struct frame *f = frame_at(slot, 1);
	uint32_t i = p->callee;
	if (!i || p->caller != c->node) {
		i = p->callee = child(c->node, p->site, 0);
		if (i != c->node)
			nodes[i].u.ret = p->end;
	}
	if (f)
		*f = (struct frame){ p->end, c->frame, c->node, i };
	p->caller = c->node;
	c->node = i;
	c->frame = slot;
	c->fresh = c->jumped = 0;
}

static void returned(struct cpu *c, struct block *p, uint64_t pc)
{
	struct frame *f = frame_at(c->slot, 0);
	int known = f && f->ret && (f->ret == pc || f->callee == c->node || noted(handlers, pc));
	/* With another target, the slot was written to: retpolines return into functions. Or an interrupt came in between. */
	if (known) {
		int handler = f->ret != pc && f->callee != c->node;
		handler |= f->ret != pc && noted(handlers, pc);
		c->node = f->node;
		c->frame = f->caller;
		c->fresh = c->jumped = 0;
		uint64_t ret = f->ret;
		f->ret = 0;
		if (handler) {
			resumes_at(ret, c->node);
			interrupted(c, p, pc);
		}
		return;
	}
	if (f)
		f->ret = 0;
	if (went_back(c, pc))
		return;
	if (!c->frame || c->slot > c->frame + STACK || c->slot + STACK < c->frame) {
		/* Onto a stack that no call was seen on: a stack that was moved, as Go's are, where the call is known by its code; or
		 * a thread's first return. */
		if (called_last(c, pc))
			return;
		c->node = 0;
		c->frame = 0;
		c->fresh = 1;
	}
	c->jumped = 1;
}

static void left(struct cpu *c, struct block *p, uint64_t pc)
{
	uint32_t back = 0;
	int known = 0;
	for (uint32_t i = nodes[c->node].trap; i; i = nodes[nodes[i].parent].trap) {
		struct block *from = nodes[i].u.from;
		if (!from || pc == from->next[0] || pc == from->next[1] || within(from, pc) ||
			from->next[0] == NOWHERE && from->kind != ENTERS && resumes[mix(pc, 2) & (SET - 1)].pc != pc) {
			back = nodes[i].parent, known = 1;
			break;
		}
	}
	if (!known && resumes[mix(pc, 2) & (SET - 1)].pc == pc)
		back = resumes[mix(pc, 2) & (SET - 1)].node, known = 1;
	if (!known && noted(handlers, pc) && nodes[c->node].trap) {
		c->node = nodes[nodes[c->node].trap].parent;
		interrupted(c, p, pc);
		return;
	}
	c->node = back;
	c->frame = 0;
	c->fresh = c->jumped = 0;
}

/* moved finds the context of the block at pc, which p did not simply go on to. */
static void moved(struct cpu *c, struct block *p, uint64_t pc, uint64_t executed)
{
	switch (p->kind) {
	case CALLS:
		if (c->slot) {
			called(c, p);
			if (p->next[1] != NOWHERE ? pc != p->next[1] && !wraps(p, pc) : noted(handlers, pc)) {
				resumes_at(p->next[1], c->node);
				interrupted(c, p, pc);
			}
			return;
		}
		if (within(p, pc))
			return;
		break;
	case RETURNS:
		if (c->slot) {
			returned(c, p, pc);
			return;
		}
		if (within(p, pc))
			return;
		break;
	case JUMPS:
		if (executed < p->n && within(p, pc))
			return; /* broken up at an access to a device */
		if (executed < p->n || noted(handlers, pc))
			break;
		if (!maybe_return(pc) || !went_back(c, pc) && !called_last(c, pc))
			c->jumped = 1;
		return;
	case ENTERS: {
		if (executed < p->n)
			break;
		resumes_at(p->end, c->node);
		uint32_t i = child(c->node, p->site, 1);
		if (i != c->node)
			nodes[i].u.from = p;
		c->node = i;
		c->frame = 0;
		c->fresh = 1;
		return;
	}
	case LEAVES:
		if (executed < p->n)
			break;
		left(c, p, pc);
		return;
	default:
		if (within(p, pc) || wraps(p, pc))
			return;
	}
	interrupted(c, p, pc);
}

/* Pages of RAM that were touched. A page that was touched through an address is touched through it again until the mapping
 * may change, which takes an instruction that the processor's own buffers need too. */

enum { RAM_PAGES = 1 << 24, SEEN = 1 << 12 };
static struct first { uint32_t page, cell; uint64_t instructions; } *firsts; /* in the order in which they were touched */
static uint64_t nfirsts;
static uint64_t ram_pages = RAM_PAGES, low_pages; /* low_pages: of RAM below the hole for devices */
enum { HIGH_PAGE = 1 << 20 };                     /* where it goes on */
static unsigned char *touched_pages; /* a bit each */
static uint64_t seen[SEEN];
static int memory, ram_fd = -1;

static int touch_page(uint64_t page, uint32_t cell, uint64_t now)
{
	if (page >= ram_pages || touched_pages[page / 8] & 1 << page % 8)
		return 0;
	touched_pages[page / 8] |= (unsigned char)(1 << page % 8);
	firsts[nfirsts++] = (struct first){ (uint32_t)page, cell, now };
	return 1;
}

static void touches(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *udata)
{
	uint64_t page = vaddr >> 12;
	(void)vcpu, (void)udata;
	if (seen[page % SEEN] == page + 1)
		return;
	struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(info, vaddr);
	if (!hw || qemu_plugin_hwaddr_is_io(hw))
		return;
	uint64_t to = qemu_plugin_hwaddr_phys_addr(hw) >> 12;
	if (to >= HIGH_PAGE && low_pages < ram_pages)
		to -= HIGH_PAGE - low_pages;
	else if (to >= low_pages)
		to = ram_pages; /* ROM */
	if (touch_page(to, active->cell, counted()))
		pages[active->cell]++;
	seen[page % SEEN] = page + 1;
}

/* What the VMM has put into RAM before the first instruction is not the guest's doing. */
static void look_at_ram(void)
{
	off_t at = 0, end;
	while (ram_fd >= 0 && (at = lseek(ram_fd, at, SEEK_DATA)) >= 0 && (end = lseek(ram_fd, at, SEEK_HOLE)) > at) {
		for (; at < end; at += 4096)
			loaded += (uint64_t)touch_page((uint64_t)at >> 12, 0, 0);
	}
	ram_fd = -1;
}

static void mappings_change(unsigned vcpu, void *udata)
{
	(void)vcpu, (void)udata;
	memset(seen, 0, sizeof seen);
}

/* executes runs at the start of each block, so what is rare is elsewhere: nothing is saved for it on the way. */
static __attribute__((noinline, cold)) void before_first(void)
{
	if (outs_pending)
		outs_done();
	if (ram_fd >= 0)
		look_at_ram();
}

static __attribute__((noinline)) void elsewhere(struct cpu *c, struct block *b, uint64_t executed)
{
	struct block *p = c->prev;
	if (p != b || p->kind != GOES_ON) /* repeated strings */
		moved(c, p, b->pc, executed);
}

/* in_context makes the cell of a block that of the context. What was spent in the last one goes there first. */
static __attribute__((noinline)) void in_context(uint32_t node, struct block *b, uint8_t cpu, struct cell *from)
{
	uint32_t block = b->id | (uint32_t)cpu << CPU_SHIFT, i = from->next;
	if (!i || cells[i].node != node || cells[i].block != block)
		i = from->next = cell_of(node, block);
	cells[b->cell].count += b->spent;
	b->spent = 0;
	b->node = node;
	b->cpu = cpu;
	b->cell = i;
}

static void executes(unsigned vcpu, void *udata)
{
	struct block *b = udata;
	uint8_t cpu = (uint8_t)(vcpu % MAX_CPUS);
	struct cpu *c = &cpus[cpu];
	uint64_t now = counted();
	active->spent += now - last;
	last = now;
	if (outs_pending || ram_fd >= 0)
		before_first();
	struct block *p = c->prev;
	if (p && b->pc != p->next[0] && (b->pc != p->next[1] || p->kind == CALLS))
		elsewhere(c, b, cpu == running ? now - c->before : p->n); /* vCPUs take turns between blocks */
	running = cpu;
	c->prev = b;
	c->before = now;
	c->slot = 0;
	if (b->node != c->node || b->cpu != cpu)
		in_context(c->node, b, cpu, &cells[active->cell]);
	active = b;
}

/* A call's and a return's last access is the one of the return address. */
static void stack_access(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *udata)
{
	(void)info, (void)udata;
	cpus[vcpu % MAX_CPUS].slot = vaddr;
}

/* Code. */

static uint64_t target(const unsigned char *p, size_t n, size_t operand, uint64_t end)
{
	int64_t rel = 0;
	switch (n - operand) {
	case 1: rel = (int8_t)p[operand]; break;
	case 2: rel = (int16_t)(p[operand] | p[operand + 1] << 8); break;
	case 4: rel = (int32_t)((uint32_t)p[operand] | (uint32_t)p[operand + 1] << 8 | (uint32_t)p[operand + 2] << 16 | (uint32_t)p[operand + 3] << 24); break;
	default: return NOWHERE;
	}
	uint64_t to = end + (uint64_t)rel;
	return end < UINT64_C(1) << 32 && to >> 32 ? to & 0xffffffff : to;
}

/* classify says what a block's last instruction does. A direct call's target is next[1]. */
static void classify(struct block *b, const unsigned char *p, size_t n)
{
	size_t i = operation(p, n);
	unsigned op = i < n ? p[i] : 0x90, more = i + 1 < n ? p[i + 1] : 0, reg = more >> 3 & 7;
	b->kind = GOES_ON;
	b->next[0] = b->end;
	b->next[1] = NOWHERE;
	if (op == 0xe8) {
		b->kind = CALLS;
		b->next[1] = target(p, n, i + 1, b->end);
	} else if (op == 0xff && (reg == 2 || reg == 3) || op == 0x9a) {
		b->kind = CALLS;
	} else if ((op & 0xf6) == 0xc2) { /* c2, c3, ca, cb */
		b->kind = RETURNS;
	} else if (op == 0xeb || op == 0xe9) {
		b->next[0] = target(p, n, i + 1, b->end);
	} else if ((op & 0xf0) == 0x70 || (op & 0xfc) == 0xe0) {
		b->next[1] = target(p, n, i + 1, b->end);
	} else if (op == 0x0f && (more & 0xf0) == 0x80) {
		b->next[1] = target(p, n, i + 2, b->end);
	} else if (op == 0xff && (reg == 4 || reg == 5) || op == 0xea) {
		b->kind = JUMPS;
	} else if (op >= 0xcc && op <= 0xce || op == 0xf1 || op == 0x0f && (more == 0x05 || more == 0x34)) {
		b->kind = ENTERS;
	} else if (op == 0xcf || op == 0x0f && (more == 0x07 || more == 0x35)) {
		b->kind = LEAVES;
	}
	if (b->kind != GOES_ON)
		b->next[0] = NOWHERE;
}

static int changes_mappings(const unsigned char *p, size_t n)
{
	size_t i = operation(p, n);
	if (i + 2 >= n || p[i] != 0x0f)
		return 0;
	return p[i + 1] == 0x22 || p[i + 1] == 0x01 && (p[i + 2] >> 3 & 7) == 7 || p[i + 1] == 0x38 && p[i + 2] == 0x82;
}

static struct block **block_table;
static uint64_t nblocks;
enum { BLOCK_TABLE = 1 << 18 };

/* What is translated again and is the same as before is the same block. */
static struct block *block_for(struct block *b)
{
	struct block **list = &block_table[mix(b->pc, b->end) % BLOCK_TABLE];
	for (struct block *o = *list; o; o = o->same)
		if (o->pc == b->pc && o->end == b->end && o->n == b->n && o->site == b->site && o->kind == b->kind &&
			o->next[0] == b->next[0] && o->next[1] == b->next[1] && !memcmp(o->code, b->code, sizeof b->code))
			return o;
	struct block *o = aligned_alloc(64, sizeof *o + 63 & ~(size_t)63);
	if (!o)
		die("firstlight plugin");
	if (nblocks == 1 << CPU_SHIFT)
		die("firstlight plugin: the guest's code is too large");
	*o = *b;
	o->id = (uint32_t)nblocks++;
	o->node = UINT32_MAX;
	o->same = *list;
	return *list = o;
}

void tree_block(struct qemu_plugin_tb *tb, size_t n, const unsigned char *code, size_t ncode)
{
	struct block b = { .pc = qemu_plugin_tb_vaddr(tb), .n = (uint32_t)n, .ncode = (uint8_t)(ncode < sizeof b.code ? ncode : sizeof b.code) };
	struct qemu_plugin_insn *insn = 0;
	size_t at = 0, size = 0;
	memcpy(b.code, code, b.ncode);
	for (size_t i = 0; i < n; i++, at += size) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		size = qemu_plugin_insn_size(insn);
		if (memory) {
			qemu_plugin_register_vcpu_mem_cb(insn, touches, CB_NO_REGS, MEM_RW, 0);
			if (at + size <= ncode && changes_mappings(code + at, size))
				qemu_plugin_register_vcpu_insn_exec_cb(insn, mappings_change, CB_NO_REGS, 0);
		}
	}
	b.site = qemu_plugin_insn_vaddr(insn);
	b.end = b.site + size;
	at -= size;
	classify(&b, code + (at < ncode ? at : ncode), at + size <= ncode ? size : 0);
	struct block *o = block_for(&b);
	if (o->kind == CALLS) {
		note_return(o);
		qemu_plugin_register_vcpu_mem_cb(insn, stack_access, CB_NO_REGS, MEM_W, 0);
	} else if (o->kind == RETURNS) {
		/* A return only reads. QEMU 7.2 tells of that read if it is asked for both, not if it is asked for reads. */
		qemu_plugin_register_vcpu_mem_cb(insn, stack_access, CB_NO_REGS, MEM_RW, 0);
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executes, CB_NO_REGS, o);
}

static void flush(void)
{
	uint64_t now = counted();
	active->spent += now - last;
	last = now;
	cells[0].count += before_all.spent;
	before_all.spent = 0;
	for (uint64_t i = 0; i < BLOCK_TABLE; i++)
		for (struct block *b = block_table[i]; b; b = b->same) {
			cells[b->cell].count += b->spent;
			b->spent = 0;
		}
	for (uint64_t i = 0; i < ncells; i++) {
		uint32_t touched = memory ? pages[i] : 0;
		if (!cells[i].count && !touched)
			continue;
		if (nentries == MAX_LOG)
			die("firstlight plugin: the profile is too large");
		entries[nentries++] = (struct logged){ (uint32_t)i, touched, cells[i].count };
		phases[nphases - 1].entries++;
		cells[i].count = 0;
		if (memory)
			pages[i] = 0;
	}
}

void tree_phase(uint64_t mark)
{
	if (nphases < MAX_PHASES) {
		flush();
		phases[nphases++].mark = mark;
	}
}

void tree_begin(int with_memory, int ram, uint64_t low)
{
	memory = with_memory;
	nodes = reserve(MAX_NODES * sizeof *nodes);
	cells = reserve(MAX_CELLS * sizeof *cells);
	entries = reserve(MAX_LOG * sizeof *entries);
	block_table = reserve(BLOCK_TABLE * sizeof *block_table);
	nnodes = ncells = 1; /* the root, and what is executed before the first block: nothing */
	phases[nphases++].mark = NOWHERE;
	if (!memory)
		return;
	touched_pages = reserve(RAM_PAGES / 8);
	pages = reserve(MAX_CELLS * sizeof *pages);
	firsts = reserve(RAM_PAGES * sizeof *firsts);
	ram_fd = ram;
	off_t size = ram >= 0 ? lseek(ram, 0, SEEK_END) : -1;
	if (size > 0 && (uint64_t)size >> 12 < ram_pages)
		ram_pages = (uint64_t)size >> 12;
	low_pages = low && low >> 12 < ram_pages ? low >> 12 : ram_pages;
}

void tree_end(void) { flush(); }

/* The report, as tree.go reads it. What has another form in memory goes through a small buffer. */

static unsigned char gathered[1 << 16];
static size_t ngathered;

static void scatter(void) { report(gathered, ngathered), ngathered = 0; }

static void gather(const void *p, size_t n)
{
	if (ngathered + n > sizeof gathered)
		scatter();
	memcpy(gathered + ngathered, p, n);
	ngathered += n;
}

void tree_report(void)
{
	uint64_t header[8] = { nnodes, ncells, nblocks, nphases, nentries, nfirsts, lost, loaded };
	report(header, sizeof header);
	struct block **by_id = reserve((nblocks + 1) * sizeof *by_id);
	for (uint64_t i = 0; i < BLOCK_TABLE; i++)
		for (struct block *b = block_table[i]; b; b = b->same)
			by_id[b->id] = b;
	for (uint64_t i = 0; i < nblocks; i++) {
		struct { uint64_t pc; uint32_t n, ncode; unsigned char code[16]; } b = { by_id[i]->pc, by_id[i]->n, by_id[i]->ncode, {0} };
		memcpy(b.code, by_id[i]->code, sizeof b.code);
		gather(&b, sizeof b);
	}
	for (uint64_t i = 0; i < nnodes; i++) {
		struct { uint32_t parent, trap; uint64_t site, first; } n = { nodes[i].parent, nodes[i].from_trap, nodes[i].site, nodes[i].first };
		gather(&n, sizeof n);
	}
	for (uint64_t i = 0; i < ncells; i++)
		gather(&cells[i], 2 * sizeof cells[i].node);
	scatter();
	report(phases, nphases * sizeof *phases);
	report(entries, nentries * sizeof *entries);
	report(firsts, nfirsts * sizeof *firsts);
}
