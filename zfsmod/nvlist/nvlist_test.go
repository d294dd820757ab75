package nvlist

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var every = List{{"boolean", nil}, {"number", uint64(1) << 63}, {"text", "hello"}, {"numbers", []uint64{1, 2, 3}}, {"bytes", []byte("abcde")},
	{"yes", true}, {"list", List{{"inner", "x"}}}, {"lists", []List{{{"a", uint64(1)}}, nil}}, {"empty", ""}}

func TestRoundTrip(t *testing.T) {
	got, err := Unpack(append(Pack(every), "what follows"...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(every, got); d != "" {
		t.Error(d)
	}
	if n, ok := got.Uint64("number"); n != 1<<63 || !ok || got.String("text") != "hello" || got.List("list").String("inner") != "x" || got.Get("not there") != nil {
		t.Errorf("%v", got)
	}
}

func TestDamaged(t *testing.T) {
	b := Pack(every)
	for n := range len(b) {
		if l, err := Unpack(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %v, %v", n, len(b), l, err)
		}
	}
	deep := List{}
	for range 30 {
		deep = List{{"l", deep}}
	}
	if _, err := Unpack(Pack(deep)); !errors.Is(err, ErrDamaged) {
		t.Errorf("lists 30 deep in each other: %v", err)
	}
	if _, err := Unpack([]byte("\x00\x01\x00\x00 native encoding")); err == nil || !strings.Contains(err.Error(), "XDR") {
		t.Error(err)
	}
}

// values counts what a list holds.
func values(l List) (n int) {
	for _, p := range l {
		n++
		switch v := p.Value.(type) {
		case List:
			n += values(v)
		case []List:
			for _, x := range v {
				n += 1 + values(x)
			}
		case []uint64:
			n += len(v)
		}
	}
	return n
}

// FuzzUnpack unpacks what may be no list: it never holds more than there are bytes for, and comes back when it is packed again.
func FuzzUnpack(f *testing.F) {
	f.Add(Pack(every))
	f.Add(Pack(nil))
	f.Add(append(Pack(every)[:40], 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, p []byte) {
		l, err := Unpack(p)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if n := values(l); n > len(p)/8 {
			t.Errorf("%d values in %d bytes", n, len(p))
		}
		again, err := Unpack(Pack(l))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l, again); d != "" {
			t.Error(d)
		}
	})
}
