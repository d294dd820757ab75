package imgbuild

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
)

func TestLayout(t *testing.T) {
	text := "# comment\n/a b\t4096\t100\n\"/\\xff\\n\"\t0\t5\n\nc 1 2\r\n"
	want := []fsmod.Use{{Path: "a b", Offset: 4096, Length: 100}, {Path: "\xff\n", Length: 5}, {Path: "c", Offset: 1, Length: 2}}
	if got, err := parseLayout(text); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"a", "a 1", "1 2", "a -1 2", "a 1 2x", "\"a 1 2", "a 9223372036854775807 1"} {
		if got, err := parseLayout(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
	name := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(name, []byte("FLRECORD and no more"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := readLayout(name); err == nil {
		t.Error("a damaged recording is taken for a layout")
	}
}

func FuzzLayout(f *testing.F) {
	f.Add("/a\t1\t2\n\"/b\"\t3\t4\n")
	f.Fuzz(func(t *testing.T, text string) {
		uses, _ := parseLayout(text) // its error is for the user
		for _, u := range uses {
			if u.Offset < 0 || u.Length < 0 || u.Offset+u.Length < 0 {
				t.Errorf("%+v", u)
			}
		}
	})
}
