package sample

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

func qmpEvent(name string, at time.Time) qmp.Event { return qmp.Event{Name: name, Time: at} }

func twoCPUs(t testing.TB) string {
	t.Helper()
	// What QEMU 7.2.22 said about the guest of loops.S on two CPUs, of which the second never ran.
	b, err := os.ReadFile("testdata/two-cpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseRegisters(t *testing.T) {
	text := twoCPUs(t)
	for _, s := range []string{text, string(bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n")))} {
		got, err := ParseRegisters(s)
		if err != nil {
			t.Fatal(err)
		}
		want := []CPU{
			{Index: 0, PC: 0x100133, FP: 0x40106fd0, SP: 0x40106fd0, CR3: 0x102000, CR4: 0x20, Privileged: true, Long: true, Paging: true},
			{Index: 1, PC: 0xfffffff0, Privileged: true, Halted: true},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, bad := range []string{
		"", "unknown command: 'info registers -a'", "CPU#", "CPU#x\nRIP=0", "CPU#-1\n", "CPU#0\nRIP=0000000000100133",
		"CPU#0\nRIP=10x", "CPU#0\nCS =8", "CPU#0\nCS =8 x",
		string(bytes.ReplaceAll([]byte(text), []byte("CR3"), []byte("CR9"))),
		"CPU#0\nRIP=10000000000000000",
	} {
		if cpus, err := ParseRegisters(bad); !errors.Is(err, ErrRegisters) {
			t.Errorf("%.40q: %v, %v", bad, cpus, err)
		}
	}
}

func FuzzParseRegisters(f *testing.F) {
	f.Add(twoCPUs(f))
	f.Add("CPU#0\nRIP=1 RBP=2 RSP=3 CPL=3 HLT=1 CR0=80000000 CR3=4 CR4=5\nCS =0 1")
	f.Fuzz(func(t *testing.T, text string) {
		cpus, err := ParseRegisters(text)
		if (err == nil) == (len(cpus) == 0) {
			t.Errorf("%d CPUs, %v", len(cpus), err)
		}
	})
}

// machine is physical memory that tests write.
type machine []byte

func (m machine) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

func (m machine) put(addr uint64, words ...uint64) {
	for i, w := range words {
		binary.LittleEndian.PutUint64(m[addr+8*uint64(i):], w)
	}
}

// TestTranslate walks tables that were laid out by hand.
func TestTranslate(t *testing.T) {
	m := make(machine, 1<<20)
	const p = 1                                // present
	m.put(0x1000+8*511, 0x2000|p|1<<63)        // level 5 or 4; attributes are no address
	m.put(0x2000+8*3, 0x3000|p)                // level 4 or 3
	m.put(0x2000+8*4, 0x40000000|p|entryLarge) // 1 GiB if that is level 3; no such bit in level 4
	m.put(0x3000+8*2, 0x4000|p, 0x80200000|p|entryLarge)
	m.put(0x4000+8*1, 0x5000|p, 0x6000) // the second is not present
	m.put(0x5000, 0x7000|p|entryLarge)  // of 4 KiB pages that bit is PAT
	four, five := &CPU{CR3: 0x1fff}, &CPU{CR3: 0x1000, CR4: cr4LA57}
	at := func(indices ...uint64) (addr uint64) {
		for _, i := range indices {
			addr = addr<<9 | i
		}
		return addr << 12
	}
	const top4, top5 = 0xffff << 48, 0xfe << 56
	for _, tt := range []struct {
		name string
		cpu  *CPU
		addr uint64
		want uint64
		ok   bool
	}{
		{"4 KiB", four, top4 | at(511, 3, 2, 1) | 0x123, 0x5123, true},
		{"2 MiB", four, top4 | at(511, 3, 3, 0) | 0x12345, 0x80212345, true},
		{"1 GiB", four, top4 | at(511, 4, 0, 0) | 0x1234567, 0x41234567, true},
		{"not present", four, top4 | at(511, 3, 2, 2), 0, false},
		{"no table", four, top4 | at(511, 5, 2, 2), 0, false},
		{"not canonical", four, at(511, 3, 2, 1), 0, false},
		{"five levels", five, top5 | at(511, 3, 2, 1, 0) | 8, 0x7008, true},
		{"not canonical in five", five, 1<<56 | at(511, 3, 2, 1, 0), 0, false},
		{"table beyond memory", five, top5 | at(511, 4, 0, 0, 0), 0, false},
	} {
		if got, ok := newMemory(m).translate(tt.cpu, tt.addr); ok != tt.ok || got != tt.want {
			t.Errorf("%s: %#x is at %#x, %v, want %#x, %v", tt.name, tt.addr, got, ok, tt.want, tt.ok)
		}
	}
}

// flat maps 2 MiB at 0 to themselves, with tables at 0x1000.
func flat() machine {
	m := make(machine, 2<<20)
	m.put(0x1000, 0x2001)
	m.put(0x2000, 0x3001)
	m.put(0x3000, 1|entryLarge)
	return m
}

func TestCall(t *testing.T) {
	m, cpu := flat(), &CPU{CR3: 0x1000}
	for code, want := range map[string]Call{
		"\xe8\x10\x00\x00\x00":         {0x8000, 0x8010},
		"\xe8\xf0\xff\xff\xff":         {0x8000, 0x7ff0},
		"\xff\xd0":                     {0x8000, 0}, // call *%rax
		"\x41\xff\xd4":                 {0x8000, 0}, // call *%r12
		"\xff\x12":                     {0x8000, 0}, // call *(%rdx)
		"\xff\x52\x08":                 {0x8000, 0}, // call *8(%rdx)
		"\xff\x92\x00\x01\x00\x00":     {0x8000, 0}, // call *0x100(%rdx)
		"\xff\x15\x00\x01\x00\x00":     {0x8000, 0}, // call *0x100(%rip)
		"\xff\x14\xc2":                 {0x8000, 0}, // call *(%rdx,%rax,8)
		"\xff\x54\xc2\x08":             {0x8000, 0}, // call *8(%rdx,%rax,8)
		"\xff\x94\xc2\x00\x01\x00\x00": {0x8000, 0}, // call *0x100(%rdx,%rax,8)
		"\xff\x14\xc5\x00\x01\x00\x00": {0x8000, 0}, // call *0x100(,%rax,8)
		"\xff\xe0":                     {},          // jmp *%rax
		"\xff\x52":                     {},          // without its displacement
		"\xe9\x10\x00\x00\x00":         {},          // jmp
		"\x90\x90\x90\x90\x90":         {},
	} {
		clear(m[0x7ff0:0x8000])
		copy(m[0x8000-len(code):], code)
		got, ok := newMemory(m).call(cpu, 0x8000)
		if ok != (want != Call{}) || ok && got != want {
			t.Errorf("% x: %+v, %v, want %+v", code, got, ok, want)
		}
	}
	for _, addr := range []uint64{0, 6, 2 << 20, 1 << 63, ^uint64(0)} {
		if got, ok := newMemory(m).call(cpu, addr); ok {
			t.Errorf("%#x: %+v", addr, got)
		}
	}
}

// TestStack reads chains of frames that end well, badly, or not at all.
func TestStack(t *testing.T) {
	m := flat()
	call := func(ret uint64) uint64 { copy(m[ret-2:], "\xff\xd0"); return ret }
	a, b := call(0x8100), call(0x8200)
	const bad = 0x8300
	whole := func(s Stack) string {
		out := ""
		for _, c := range s.Callers {
			out += string(rune('a' + (c.Return-a)>>8))
		}
		if s.Whole {
			return out + "."
		}
		return out
	}
	frames := func(words ...uint64) string {
		clear(m[0x10000:0x20000])
		m.put(0x10000, words...)
		m.put(0x1f0000, 0x1f0010, b, 0x10010, a)
		return whole(newMemory(m).stack(CPU{PC: 0x8000, FP: 0x10000, SP: 0x10000, CR3: 0x1000, Long: true, Paging: true}))
	}
	for _, tt := range []struct {
		name  string
		words []uint64
		want  string
	}{
		{"whole", []uint64{0x10010, a, 0, b}, "ab."},
		{"goroutine", []uint64{0x10010, a, 0, bad}, "a."},
		{"no call", []uint64{0x10010, a, 0x10020, bad, 0, b}, "a"},
		{"goroutine's first function", []uint64{0, bad}, "."},
		{"no chain", []uint64{0x10010, bad, 0, a}, ""},
		{"itself", []uint64{0x10000, a}, "aaaaa"},
		{"another stack, and back", []uint64{0x1f0000, a, 0, b}, "abab."},
		{"odd", []uint64{0x10011, a, 0, b}, "a"},
		{"not mapped", []uint64{0x10010, a, 1 << 40, b}, "ab"},
	} {
		if got := frames(tt.words...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for i := range uint64(2 * MaxCallers) {
		m.put(0x10000+16*i, 0x10010+16*i, a)
	}
	cpu := CPU{PC: 0x8000, FP: 0x10000, SP: 0x10000, CR3: 0x1000, Long: true, Paging: true}
	if s := newMemory(m).stack(cpu); len(s.Callers) != MaxCallers || s.Whole {
		t.Errorf("%d callers, whole %v", len(s.Callers), s.Whole)
	}
	cpu.Long = false
	if s := newMemory(m).stack(cpu); len(s.Callers) > 0 || s.Code != nil || s.Whole {
		t.Errorf("before 64-bit mode: %+v", s)
	}
	cpu.Long, cpu.FP = true, 8 // below the stack: not a frame pointer
	if s := newMemory(m).stack(cpu); len(s.Callers) > 0 || s.Near[0] != (Call{}) || s.Near[1] != (Call{Return: a}) {
		t.Errorf("without frame pointer: %+v", s)
	}
}

// FuzzStack reads stacks through whatever is in a guest's memory.
func FuzzStack(f *testing.F) {
	f.Add([]byte(flat()[:0x4000]), uint64(0x8000), uint64(0x1000), uint64(0x1000), uint64(0))
	f.Add([]byte(flat()[:0x4000]), uint64(0x1000), uint64(0x1000), uint64(0x1000), uint64(cr4LA57))
	f.Fuzz(func(t *testing.T, memory []byte, pc, fp, cr3, cr4 uint64) {
		s := newMemory(machine(memory)).stack(CPU{PC: pc, FP: fp, SP: fp - 8, CR3: cr3, CR4: cr4, Long: true, Paging: true})
		if len(s.Callers) > MaxCallers || len(s.Code) > CodeBytes {
			t.Errorf("%d callers, %d bytes of code", len(s.Callers), len(s.Code))
		}
	})
}

func TestWeights(t *testing.T) {
	ms := func(n ...int) (d []time.Duration) {
		for _, v := range n {
			d = append(d, time.Duration(v)*time.Millisecond)
		}
		return d
	}
	for _, tt := range []struct{ at, want []time.Duration }{
		{ms(), ms()},
		{ms(3), ms(10)},
		{ms(2, 4, 8), ms(3, 3, 4)},
		{ms(2, 8, 14), ms(5, 5, 0)}, // the last is after the end
		{ms(2, 2, 2), ms(2, 0, 8)},
	} {
		got := Weights(tt.at, 10*time.Millisecond)
		if diff := cmp.Diff(tt.want, got); len(got) > 0 && diff != "" {
			t.Errorf("%v: %s", tt.at, diff)
		}
	}
}

// TestRunning leaves the stops out, also when the calendar is set back.
func TestRunning(t *testing.T) {
	zero := time.Unix(1000, 0)
	s := new(Sampler)
	for i, at := range []int{5, 8, 20, 22} {
		s.Event(qmpEvent([]string{"RESUME", "STOP"}[i%2], zero.Add(time.Duration(at)*time.Second)))
	}
	for at, want := range map[int]int{0: 0, 5: 0, 7: 2, 8: 3, 15: 3, 21: 4, 22: 5, 100: 5} {
		if got := s.Running(zero.Add(time.Duration(at) * time.Second)); got != time.Duration(want)*time.Second {
			t.Errorf("after %d s: %v, want %d s", at, got, want)
		}
	}
	s.Event(qmpEvent("RESUME", zero))
	s.Event(qmpEvent("STOP", zero.Add(-time.Second)))
	if got := s.Running(zero.Add(time.Hour)); got < 0 {
		t.Errorf("negative: %v", got)
	}
}
