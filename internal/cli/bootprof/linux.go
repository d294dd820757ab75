package bootprof

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// Where firmware puts the two parts of a bzImage, and enters them (QEMU, hw/i386/x86.c, x86_load_linux; Linux,
// Documentation/arch/x86/boot.rst: the real-mode code is entered 0x20 segments behind where it is, code32_start).
const (
	bzImageSetup  = 0x10200
	bzImageUnpack = 0x100000
)

// linuxMilestones returns the milestones of a Linux kernel after its entry. kernel may be nil; line is the command line.
func (t *target) linuxMilestones(kernel *symbols.Object, initrd, line string) []milestone {
	var all []milestone
	add := func(p plugin.Point, id uint8, name string, each func(*seen) string) {
		all = append(all, milestone{point: p, mark: boottrace.Mark{ID: id, Name: name}, each: each})
	}
	if t.unpackCode != nil {
		add(plugin.Point{Addr: bzImageUnpack, Code: t.unpackCode}, abi.MarkNamed, "unpack", nil)
	}
	entry, sees := initEntry(initrd, line)
	if sees {
		add(entry, abi.MarkApp, "", (*seen).enterApp)
	}
	if kernel == nil {
		return all
	}
	for _, fn := range []struct {
		symbol, name string
		each         func(*seen) string
	}{
		{"startup_64", "unpacked", nil},
		{"start_kernel", "start_kernel", nil},
		{"rest_init", "rest_init", nil},
		{"kernel_init", "kernel_init", nil},
		{"run_init_process", "run_init_process", (*seen).startApp},
	} {
		if p, ok := linuxPoint(kernel, fn.symbol); ok {
			add(p, abi.MarkNamed, fn.name, fn.each)
		}
	}
	names, early := initcalls(kernel)
	for _, site := range initcallSites(kernel) {
		add(site.call, abi.MarkNamed, "", func(s *seen) string {
			s.initcalls++
			if s.initcalls <= len(names) {
				return boottrace.InitcallPrefix + names[s.initcalls-1]
			}
			return boottrace.InitcallPrefix + strconv.Itoa(s.initcalls-1)
		})
		add(site.back, abi.MarkNamed, "", func(s *seen) string {
			switch s.initcalls {
			case early:
				return "early initcalls done"
			case len(names):
				return "initcalls done"
			}
			return ""
		})
	}
	if p, ok := returnToUser(kernel); ok && !sees {
		add(p, abi.MarkApp, "", (*seen).leaveKernel)
		sees = true
	}
	if !sees {
		return all
	}
	for _, write := range []string{"redirected_tty_write", "tty_write"} { // of /dev/console, and of other terminals
		if p, ok := linuxPoint(kernel, write); ok {
			add(p, abi.MarkOutput, "", (*seen).write)
		}
	}
	return all
}

func (s *seen) startApp() string {
	if s.exec {
		return ""
	}
	s.exec = true
	return "run_init_process"
}

// enterApp is the app's first instruction.
func (s *seen) enterApp() string {
	if s.app {
		return ""
	}
	s.app = true
	return "app"
}

// leaveKernel is one of the last instructions before a program's, the app's or a helper's of the kernel.
func (s *seen) leaveKernel() string {
	if !s.exec {
		return ""
	}
	return s.enterApp()
}

// write is a write to a terminal, which the kernel's own messages do not go through.
func (s *seen) write() string {
	if !s.app || s.output {
		return ""
	}
	s.output = true
	return "output"
}

// linuxPoint returns the point of a function of a Linux kernel, wherever that was moved to. Functions begin with endbr64 and a call
// that ftrace replaces, so the point is what comes after those.
func linuxPoint(o *symbols.Object, name string) (plugin.Point, bool) {
	addr, size, ok := o.Find(name)
	if !ok {
		return plugin.Point{}, false
	}
	code := make([]byte, min(size, 9+plugin.MaxCode+4))
	code = code[:o.Code(addr, code)]
	skip := 0
	if bytes.HasPrefix(code, []byte{0xf3, 0x0f, 0x1e, 0xfa}) {
		skip = 4
	}
	if len(code) >= skip+callSize && (code[skip] == opCall || bytes.HasPrefix(code[skip:], []byte{0x0f, 0x1f, 0x44, 0x00, 0x00})) {
		skip += callSize
	}
	if skip == len(code) {
		return plugin.Point{}, false
	}
	return plugin.Point{Addr: addr + uint64(skip), Mask: kernelAlign - 1, Code: unmoved(code[skip:]), Phase: plugin.PhaseFirst}, true
}

// unmoved returns what of code is the same wherever the kernel was moved to: what comes before the first absolute address of its own,
// the lower half of which lies in the 2 GiB that kernels are linked into.
func unmoved(code []byte) []byte {
	for i := range len(code) {
		if i == plugin.MaxCode {
			return code[:i]
		}
		if i+4 <= len(code) {
			if v := binary.LittleEndian.Uint32(code[i:]); v >= kernelHalf&0xffff_ffff+1<<24 && v < kernelHalf&0xffff_ffff+1<<27 {
				return code[:i]
			}
		}
	}
	return code
}

const (
	opCall   = 0xe8 // call rel32
	callSize = 5
)

// maxFunction bounds the functions that are looked through for calls.
const maxFunction = 1 << 16

// callSite is a call, and where it returns to.
type callSite struct{ call, back plugin.Point }

// initcallSites returns the calls of do_one_initcall that the table of initcalls is called by; modules are initialized by others.
func initcallSites(o *symbols.Object) []callSite {
	target, _, ok := o.Find("do_one_initcall")
	if !ok {
		return nil
	}
	var all []callSite
	for _, name := range []string{"kernel_init_freeable", "do_pre_smp_initcalls", "do_basic_setup", "do_initcalls", "do_initcall_level"} {
		addr, size, ok := o.Find(name)
		if !ok {
			continue
		}
		code := make([]byte, min(size, maxFunction))
		code = code[:o.Code(addr, code)]
		for i := 0; i+callSize <= len(code); i++ {
			if code[i] == opCall && addr+uint64(i)+callSize+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+1:])))) == target {
				at := func(i int, code []byte) plugin.Point {
					return plugin.Point{Addr: addr + uint64(i), Mask: kernelAlign - 1, Code: code}
				}
				all = append(all, callSite{at(i, code[i:i+callSize]), at(i+callSize, unmoved(code[i+callSize:]))})
			}
		}
	}
	return all
}

// maxInitcalls bounds the table of initcalls; a Linux of everything has some 2,000.
const maxInitcalls = 1 << 14

// initcalls returns the names of a Linux kernel's initcalls in the order in which it calls them: that of its table, whose entries are
// the functions' distances from the entries themselves (include/linux/init.h). The first few are called before the other CPUs start.
func initcalls(o *symbols.Object) (names []string, early int) {
	start, _, ok1 := o.Find("__initcall_start")
	later, _, ok2 := o.Find("__initcall0_start")
	end, _, ok3 := o.Find("__initcall_end")
	if !ok1 || !ok2 || !ok3 || later < start || end < later || (end-start)/4 > maxInitcalls {
		return nil, 0
	}
	table := make([]byte, end-start)
	if o.Code(start, table) < len(table) {
		return nil, 0
	}
	for at := 0; at+4 <= len(table); at += 4 {
		addr := start + uint64(at) + uint64(int64(int32(binary.LittleEndian.Uint32(table[at:]))))
		name := strconv.FormatUint(addr, 16)
		if frames := o.Lookup(addr); len(frames) > 0 {
			name = frames[len(frames)-1].Function
		}
		names = append(names, name)
	}
	return names, int(later-start) / 4
}

// returnToUser returns the point where the kernel is about to go to ring 3 with an exception's registers, as it does to start a
// program: where it takes them from the stack (arch/x86/entry/entry_64.S). What stands before that is patched when it boots.
func returnToUser(o *symbols.Object) (plugin.Point, bool) {
	addr, _, ok := o.Find("swapgs_restore_regs_and_return_to_usermode")
	if !ok {
		return plugin.Point{}, false
	}
	code := make([]byte, 128)
	code = code[:o.Code(addr, code)]
	pops := []byte{0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b} // r15, r14, r13, r12, rbp, rbx
	at := bytes.Index(code, pops)
	return plugin.Point{Addr: addr + uint64(max(at, 0)), Mask: kernelAlign - 1, Code: pops, Phase: plugin.PhaseFirst}, at >= 0
}

// initEntry returns the point of the first instruction of an initial RAM disk's init, if that is a static program. Where it is mapped
// is not known if it is position-independent; which offset in its page, and what its code is, are.
func initEntry(initrd, line string) (p plugin.Point, ok bool) {
	if initrd == "" {
		return p, false
	}
	init := "/init"
	for _, word := range strings.Fields(line) {
		if name, is := strings.CutPrefix(word, "rdinit="); is {
			init = path.Clean(name)
		}
	}
	err := initrdPrograms(initrd, func(name string, content []byte) error {
		if name == init {
			p, ok = entryPoint(content)
		}
		return nil
	})
	return p, ok && err == nil
}

// linuxPanicked tells whether a console has the message of a panic (kernel/panic.c).
func linuxPanicked(console []byte) bool {
	at := bytes.Index(console, []byte("Kernel panic - not syncing: "))
	return at == 0 || at > 0 && (console[at-1] == '\n' || bytes.HasSuffix(console[:at], []byte("] ")))
}

func entryPoint(program []byte) (plugin.Point, bool) {
	e, err := elf.NewFile(bytes.NewReader(program))
	if err != nil || slices.ContainsFunc(e.Progs, func(s *elf.Prog) bool { return s.Type == elf.PT_INTERP }) {
		return plugin.Point{}, false
	}
	for _, s := range e.Progs {
		if s.Type != elf.PT_LOAD || e.Entry < s.Vaddr || e.Entry >= s.Vaddr+s.Filesz {
			continue
		}
		code := make([]byte, min(plugin.MaxCode, s.Vaddr+s.Filesz-e.Entry))
		if _, err := s.ReadAt(code, int64(e.Entry-s.Vaddr)); err != nil {
			return plugin.Point{}, false
		}
		p := plugin.Point{Addr: e.Entry, Mask: pageAlign - 1, Code: code, Phase: plugin.PhaseFirst}
		if e.Type == elf.ET_EXEC {
			p.Mask = 0
		}
		return p, true
	}
	return plugin.Point{}, false
}
