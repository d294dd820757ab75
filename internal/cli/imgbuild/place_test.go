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

// TestUnmatched has what names no file told, a line for each flag.
func TestUnmatched(t *testing.T) {
	app := folder(t, map[string]string{"a": "a", "b/c": "c", "d.x": "d"})
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	img := filepath.Join(dir, "x.img")
	all := []string{"--no-kernel", "-o", img, "--hot", write("hot", "a\n/b/c\nb/\n"), "--raw", "*.x", "--layout", write("layout", "/a\t0\t1\n/b/c\t0\t1\n"), app}
	if _, stderr := imgbuild(t, 0, all...); stderr != "" {
		t.Errorf("all match: %q", stderr)
	}
	some := []string{"--no-kernel", "-o", img, "--hot", write("hot", "a\n/c\n*.y\n"), "--raw", "*.x", "--raw", "e", "--layout", write("layout", "/a\t0\t1\n/b\t0\t1\n/c\t0\t1\n/c\t1\t1\n"), app}
	_, stderr := imgbuild(t, 0, some...)
	want := "imgbuild: --hot: 2 of 3 patterns match no file, the first is /c\nimgbuild: --raw: 1 of 2 patterns match no file, the first is e\n" +
		"imgbuild: --layout: 1 of 3 paths match no file, the first is /c\n"
	if stderr != want {
		t.Errorf("got %s\nwant %s", stderr, want)
	}
	if _, stderr = imgbuild(t, 0, append([]string{"-q"}, some...)...); stderr != "" {
		t.Errorf("with -q: %q", stderr)
	}
}
