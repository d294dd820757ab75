package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParams(t *testing.T) {
	want := &Params{
		Version: 1, Tool: "imgbuild v1", Sources: []string{"app"}, Flavour: "native", Args: []string{"/a", "<&>"}, Env: []string{"K=V"}, Cwd: "/",
		Machine: Machine{"microvm", 64 << 20}, Ready: "output", Budgets: Budgets{1, 2, 3}, Root: RootFS{"rofs", "lz4", 65536, []string{"*"}},
		Partitions: []Partition{{"kernel", 1, 2, "ab"}},
	}
	b, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeParams(b)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("decoded (-want +got), %v:\n%s", err, d)
	}
	if !bytes.Contains(b, []byte(`"<&>"`)) || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Errorf("encoded: %s", b)
	}
	for text, want := range map[string]error{
		"":                         ErrDamaged,
		"{}":                       ErrDamaged,
		`{"version":0}`:            ErrDamaged,
		`{"version":2,"new":1}`:    ErrUnsupported,
		`{"version":1,"new":1}`:    ErrDamaged,
		`{"version":1} {}`:         ErrDamaged,
		`{"version":1,"args":"x"}`: ErrDamaged,
		"{\"tool\":\"\xff\"}":      ErrDamaged,
	} {
		if _, err := decodeParams([]byte(text)); !errors.Is(err, want) {
			t.Errorf("decodeParams(%q): %v, want %v", text, err, want)
		}
	}
}

func TestParamsTooLarge(t *testing.T) {
	p := &Params{Sources: []string{strings.Repeat("x", maxParams)}}
	if _, err := p.encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("encode: %v", err)
	}
}

func TestCheckLayout(t *testing.T) {
	sum := strings.Repeat("0", 64)
	good := func() *Params {
		return &Params{Partitions: []Partition{{"kernel", 24576, 5000, sum}, {"root", 32768, 4096, sum}}}
	}
	const size = 32768 + 4096 + 5*4096
	if err := good().checkLayout(100, size); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Params){
		"overlap":       func(p *Params) { p.Partitions[1].Offset = 28672 },
		"misaligned":    func(p *Params) { p.Partitions[1].Offset++ },
		"negative":      func(p *Params) { p.Partitions[1].Length = -1 },
		"empty":         func(p *Params) { p.Partitions[1].Length = 0 },
		"beyond":        func(p *Params) { p.Partitions[1].Length = 1 << 62 },
		"far beyond":    func(p *Params) { p.Partitions[1].Offset = 1<<63 - 4096 },
		"in the params": func(p *Params) { p.Partitions[0].Offset = 20480 },
		"order":         func(p *Params) { p.Partitions[0], p.Partitions[1] = p.Partitions[1], p.Partitions[0] },
		"twice":         func(p *Params) { p.Partitions[1].Name = "kernel" },
		"unknown":       func(p *Params) { p.Partitions[1].Name = "data" },
		"no root":       func(p *Params) { p.Partitions = p.Partitions[:1] },
		"no kernel":     func(p *Params) { p.Partitions = p.Partitions[1:] },
		"digest":        func(p *Params) { p.Partitions[0].SHA256 = "00" },
	} {
		p := good()
		change(p)
		if err := p.checkLayout(100, size); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := good().checkLayout(100, size+512); !errors.Is(err, ErrDamaged) {
		t.Errorf("another size: %v", err)
	}
}

func FuzzDecodeParams(f *testing.F) {
	p := &Params{Version: 1, Args: []string{"/a"}, Partitions: []Partition{{"kernel", 24576, 5000, strings.Repeat("0", 64)}, {"root", 32768, 4096, strings.Repeat("0", 64)}}}
	seed, err := p.encode()
	if err != nil {
		f.Fatal(err)
	}
	if p, err := decodeParams(seed); err != nil || p.checkLayout(100, 57344) != nil {
		f.Fatalf("the seed does not reach the end: %v", err)
	}
	f.Add(seed, int64(57344))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		p, err := decodeParams(b)
		if err != nil || p.checkLayout(int64(len(b)), size) != nil {
			return
		}
		for _, q := range p.Partitions {
			if q.Offset < 0 || q.Length < 1 || q.Offset+q.Length > size {
				t.Errorf("%+v is taken for a partition of %d bytes", q, size)
			}
		}
	})
}

func FuzzKernel(f *testing.F) {
	// One segment of notes, as the smallest kernel has.
	le := binary.LittleEndian
	b := make([]byte, 4096)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[ehType:], 2)
	le.PutUint16(b[ehMachine:], 62)
	le.PutUint64(b[ehPhoff:], elfHeaderSize)
	le.PutUint16(b[ehPhentsize:], progSize)
	le.PutUint16(b[ehPhnum:], 1)
	note := func(name string, typ, n uint32) {
		b = le.AppendUint32(b, uint32(len(name)))
		b = le.AppendUint32(b, n)
		b = le.AppendUint32(b, typ)
		b = append(append(b, name...), make([]byte, n)...)
	}
	note("Xen\x00", 18, 8)
	note("Firstlight\x00\x00", 1, 8192)
	le.PutUint32(b[elfHeaderSize+phType:], ptNote)
	le.PutUint64(b[elfHeaderSize+phOffset:], 4096)
	le.PutUint64(b[elfHeaderSize+phFilesz:], uint64(len(b)-4096))
	if err := CheckKernel(b); err != nil {
		f.Fatalf("the seed does not reach the end: %v", err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := parseKernel(b); err == nil {
			k.bootSector(make([]byte, SectorSize), 24576)
			if err := ClearParams(b); err != nil {
				t.Error(err)
			}
		}
	})
}
