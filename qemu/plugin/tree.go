package plugin

// Tree is every guest instruction of a boot by calling context.
type Tree struct {
	// Nodes are the contexts. [0] is the root, and a parent comes before its children.
	Nodes []Node
	// Cells are what was executed where: a block of code in a context.
	Cells []Cell
	// Blocks are the code that was executed; the same address may have held different code at different times.
	Blocks []Block
	// Phases divide the boot. The first one begins with it, and each other one with a mark.
	Phases []TreePhase
	// Lost is how many calls were taken for parts of their callers because the tree was too deep or too large. No instruction
	// is lost with them.
	Lost uint64
	// Firsts are the pages of RAM that were touched, in that order, those that the VMM had touched before the guest ran first; with
	// Config.Memory only.
	Firsts []First
	// LoadedPages is how many pages of RAM the VMM had touched before the guest ran; known with Config.Memory only.
	LoadedPages uint64
}

// Node is a calling context: a call, an interrupt or a system call, made in the context of its parent.
type Node struct {
	Parent uint32
	Trap   bool   // an interrupt, an exception or a system call
	Site   uint64 // address of the call instruction, or of the code that was interrupted
	First  uint64 // guest instructions executed before it was there first
}

// Cell is a block of code in a context.
type Cell struct {
	Node, Block uint32
	CPU         int // virtual CPU that executed it
}

// Block is code that is executed from its start on.
type Block struct {
	Addr         uint64
	Instructions uint32
	Code         []byte // its first bytes, up to 16
}

// TreePhase is what was executed in a part of the boot.
type TreePhase struct {
	Mark  int // index in Counts.Marks of the one that it begins with; -1 for the first phase
	Spent []Spent
}

// Spent is what a cell used in a phase.
type Spent struct {
	Cell         uint32
	Pages        uint32 // of RAM, 4 KiB each, touched first
	Instructions uint64
}

// First is the first touch of a page of RAM.
type First struct {
	// Page is where it is divided by 4096: its offset in the file of RAM as the plugin reports it, its physical address in what package
	// qemu returns.
	Page         uint32
	Cell         uint32 // that touched it
	Instructions uint64 // guest instructions executed before that
}

// The tree in the report, as c/tree.c writes it: eight words of numbers of nodes, cells, blocks, phases, entries, first touches, lost
// calls and loaded pages; then
//
//	blocks  u64 address, u32 instructions, u32 bytes of code that are known, 16 bytes of code
//	nodes   u32 parent, u32 1 if it is a trap, u64 site, u64 first
//	cells   u32 node, u32 block in its lower 24 bits and virtual CPU above
//	phases  u64 mark or all ones, u64 entries
//	entries of one phase after the other: u32 cell, u32 pages, u64 instructions
//	first touches  u32 page, u32 cell, u64 instructions
const (
	treeHeader = 8 * 8
	blockSize  = 32
	nodeSize   = 24
	cellSize   = 8
	phaseSize  = 16
	entrySize  = 16
	firstSize  = 16

	maxPhases = 64
	cpuShift  = 24
)

// decodeTree reads the tree at off, which the report ends with. All that it counts sums up to c's total.
func decodeTree(r report, off int, c *Counts) (*Tree, error) {
	if !r.has(int64(off), treeHeader) {
		return nil, bad(off, "tree", "it is cut short")
	}
	var n [6]uint64
	need := uint64(off + treeHeader)
	for i, size := range []uint64{nodeSize, cellSize, blockSize, phaseSize, entrySize, firstSize} {
		n[i] = r.word(off + 8*i)
		if n[i] > uint64(len(r)) {
			return nil, bad(off+8*i, "tree", "%d of a part", n[i])
		}
		need += n[i] * size
	}
	if need != uint64(len(r)) || n[0] == 0 || n[1] == 0 || n[3] == 0 || n[3] > maxPhases {
		return nil, bad(off, "tree", "parts %v make %d bytes of %d", n, need, len(r))
	}
	t := &Tree{
		Nodes: make([]Node, n[0]), Cells: make([]Cell, n[1]), Blocks: make([]Block, n[2]), Phases: make([]TreePhase, n[3]),
		Lost: r.word(off + 48), LoadedPages: r.word(off + 56),
	}
	off += treeHeader
	for i := range t.Blocks {
		b := Block{Addr: r.word(off), Instructions: r.short(off + 8)}
		known := r.short(off + 12)
		if known > MaxCode {
			return nil, bad(off+12, "block", "%d bytes of code", known)
		}
		b.Code = r[off+16:][:known:known]
		t.Blocks[i] = b
		off += blockSize
	}
	for i := range t.Nodes {
		node := Node{r.short(off), r.short(off+4) != 0, r.word(off + 8), r.word(off + 16)}
		if i == 0 && node.Parent != 0 || i > 0 && uint64(node.Parent) >= uint64(i) {
			return nil, bad(off, "node", "parent %d of node %d", node.Parent, i)
		}
		t.Nodes[i] = node
		off += nodeSize
	}
	for i := range t.Cells {
		block := r.short(off + 4)
		cell := Cell{r.short(off), block & (1<<cpuShift - 1), int(block >> cpuShift)}
		if uint64(cell.Node) >= n[0] || i > 0 && uint64(cell.Block) >= n[2] {
			return nil, bad(off, "cell", "node %d, block %d", cell.Node, cell.Block)
		}
		t.Cells[i] = cell
		off += cellSize
	}
	entries := off + phaseSize*len(t.Phases)
	var total, used uint64
	for i := range t.Phases {
		p := TreePhase{Mark: -1}
		if m := r.word(off); i > 0 {
			if m >= uint64(len(c.Marks)) {
				return nil, bad(off, "phase", "it begins with mark %d of %d", m, len(c.Marks))
			}
			p.Mark = int(m)
		}
		m := r.word(off + 8)
		if m > n[4]-used {
			return nil, bad(off+8, "phase", "%d entries", m)
		}
		used += m
		p.Spent = make([]Spent, m)
		for j := range p.Spent {
			s := Spent{r.short(entries), r.short(entries + 4), r.word(entries + 8)}
			if uint64(s.Cell) >= n[1] {
				return nil, bad(entries, "entry", "cell %d of %d", s.Cell, n[1])
			}
			total += s.Instructions
			p.Spent[j] = s
			entries += entrySize
		}
		t.Phases[i] = p
		off += phaseSize
	}
	if used != n[4] {
		return nil, bad(off, "phases", "%d entries of %d", used, n[4])
	}
	if total != c.Total {
		return nil, bad(off, "tree", "it has %d instructions, and %d were counted", total, c.Total)
	}
	off = entries
	var last uint64
	for range n[5] {
		f := First{r.short(off), r.short(off + 4), r.word(off + 8)}
		if uint64(f.Cell) >= n[1] || f.Instructions < last || f.Instructions > c.Total {
			return nil, bad(off, "first touch", "cell %d, %d instructions after %d of %d", f.Cell, f.Instructions, last, c.Total)
		}
		last = f.Instructions
		t.Firsts = append(t.Firsts, f)
		off += firstSize
	}
	return t, nil
}
