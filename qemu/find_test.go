package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake writes a program that prints text, and returns its path.
func fake(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), binaryName)
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncat <<'EOF'\n"+text+"\nEOF\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	good := fake(t, "QEMU emulator version 9.1.0 (v9.1.0)\nCopyright (c) Fabrice Bellard")
	old := fake(t, "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)")
	other := fake(t, "hello")
	for _, x := range []struct {
		name, env, path, dir string
		err                  error
		text                 string
	}{
		{name: "by path", path: good},
		{name: "by environment", env: good},
		{name: "in PATH", dir: filepath.Dir(good)},
		{name: "path before environment", path: good, env: old},
		{name: "not in PATH", dir: t.TempDir(), err: ErrNotFound, text: "apt-get install qemu-system-x86"},
		{name: "no such path", path: "/nonexistent/qemu", err: ErrNotFound, text: "/nonexistent/qemu"},
		{name: "no such path in environment", env: "/nonexistent/qemu", err: ErrNotFound, text: EnvBinary},
		{name: "too old", path: old, err: ErrTooOld, text: "5.2.0"},
		{name: "not QEMU", path: other, err: ErrNotFound, text: "hello"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Setenv(EnvBinary, x.env)
			if x.dir != "" {
				t.Setenv("PATH", x.dir+":/bin:/usr/bin")
				if x.err != nil {
					t.Setenv("PATH", x.dir)
				}
			}
			q, err := Find(t.Context(), x.path)
			if x.err == nil {
				if err != nil || q.Path != good || q.Version != (Version{9, 1, 0}) {
					t.Errorf("got %+v, %v", q, err)
				}
				return
			}
			if !errors.Is(err, x.err) || !strings.Contains(err.Error(), x.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for line, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)": "7.2.22",
		"QEMU emulator version 10.0.2":                                   "10.0.2",
		"QEMU emulator version 9.2.0-rc1 (v9.2.0-rc1-dirty)\r":           "9.2.0",
		"QEMU emulator version 8.2":                                      "8.2.0",
		"QEMU emulator version 6.1.50.3":                                 "6.1.50",
		"QEMU emulator version 7":                                        "",
		"QEMU emulator version 7.x.1":                                    "",
		"QEMU emulator version 99999.1.1":                                "",
		"qemu-img version 7.2.22":                                        "",
		"":                                                               "",
	} {
		v, err := parseVersion([]byte(line))
		if got := v.String(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %s, %v; want %q", line, got, err, want)
		}
	}
	ordered := []Version{{5, 2, 9}, {6, 0, 99}, {6, 1, 0}, {6, 1, 1}, {7, 0, 0}, {10, 0, 0}}
	for i, v := range ordered {
		for j, w := range ordered {
			if v.Less(w) != (i < j) {
				t.Errorf("%v before %v: %v", v, w, v.Less(w))
			}
		}
	}
}

func FuzzVersion(f *testing.F) {
	f.Add([]byte("QEMU emulator version 7.2.22 (Debian)\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		v, err := parseVersion(out)
		if err == nil && (v.Major < 0 || v.Minor < 0 || v.Micro < 0) {
			t.Errorf("%q: %v", out, v)
		}
	})
}
