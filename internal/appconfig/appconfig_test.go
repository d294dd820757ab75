package appconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse([]byte(`# how hello is run
command: /bin/hello "two words"
args: [--port, "80"]
env:
  B: "2"
  A: x=y
cwd: /srv
memory: 64M
rootfs:
  type: rofs
  compress: lz4
  cluster-size: 64K
  raw: ["*.png", bin/hello]
  exclude: ["*.o"]
ready: listen:80
budgets:
  boot: 100ms
  memory: 16777216
  instructions: 1.6M
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Command: Words{"/bin/hello", "two words"},
		Args:    []string{"--port", "80"},
		Env:     Env{"A=x=y", "B=2"},
		Cwd:     "/srv",
		Memory:  64 << 20,
		RootFS:  RootFS{Type: "rofs", Compress: "lz4", ClusterSize: 64 << 10, Raw: []string{"*.png", "bin/hello"}, Exclude: []string{"*.o"}},
		Ready:   "listen:80",
		Budgets: Budgets{Boot: Duration(100 * time.Millisecond), Memory: 16 << 20, Instructions: 1_600_000},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Parse (-want +got):\n%s", d)
	}
}

func TestParseForms(t *testing.T) {
	for text, want := range map[string]*Config{
		"":                                {},
		"# nothing\n":                     {},
		"command: [/a b, c]":              {Command: Words{"/a b", "c"}},
		"command: /hello":                 {Command: Words{"/hello"}},
		"env: [B=2, A=1, B=3]":            {Env: Env{"A=1", "B=3"}},
		"env: {N: 5}":                     {Env: Env{"N=5"}},
		"rootfs: {compress: true}":        {RootFS: RootFS{Compress: CompressDefault}},
		"rootfs: {compress: false}":       {RootFS: RootFS{Compress: CompressNone}},
		"rootfs: {cluster-size: 4096}":    {RootFS: RootFS{ClusterSize: 4096}},
		"rootfs:\n":                       {},
		"budgets: {instructions: 900000}": {Budgets: Budgets{Instructions: 900000}},
		"ready: mark:up":                  {Ready: "mark:up"},
	} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", text, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"cwd: /\ncomand: x":               {"line 2", `"comand"`, "command, args, env, cwd, memory, rootfs, ready, budgets"},
		"rootfs:\n  type: rofs\n  zip: 1": {"line 3", `"rootfs.zip"`, "type, compress, cluster-size, raw, exclude"},
		"cwd: a\ncwd: b":                  {"line 2", "cwd"},
		"memory: lots":                    {`"lots"`, "64K"},
		"memory: -1":                      {"size"},
		"memory: 99999999T":               {"size"},
		"budgets: {boot: soon}":           {"soon", "100ms"},
		"budgets: {instructions: none}":   {"none"},
		"ready: listen:70000":             {"listen:PORT"},
		"ready: perhaps":                  {"listen:PORT"},
		"env: [A]":                        {"NAME=VALUE"},
		"env: {A: {B: c}}":                {"mapping"},
		"command: 'a \"b'":                {"not closed"},
		"- a":                             {"line 1", "mapping"},
		"rootfs: rofs":                    {"line 1", "rootfs", "mapping"},
		"a: [":                            {"line 1"},
		"env: !x 0":                       {"line 1", "tags"},
		"args: &a [x]\nenv: *a":           {"line 1", "aliases"},
		"cwd: a\n---\ncwd: b":             {"document"},
	} {
		_, err := Parse([]byte(text))
		if err == nil {
			t.Errorf("Parse(%q) is no error", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Parse(%q): %q does not say %q in one line", text, err, w)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if c, err := Load(dir); c != nil || err != nil {
		t.Errorf("Load of a folder without the file: %v, %v", c, err)
	}
	name := filepath.Join(dir, Name)
	if err := os.WriteFile(name, []byte("cmd: x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), name+": line 1") {
		t.Errorf("Load: error %v does not name file and line", err)
	}
	if err := os.Truncate(name, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Load of a huge file: %v", err)
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                      nil,
		"  a  b\tc ":            {"a", "b", "c"},
		`'a b' "c d" e\ f`:      {"a b", "c d", "e f"},
		`"" ''`:                 {"", ""},
		`a"b c"'d e'`:           {"ab cd e"},
		`"a\"b\\c\d\$"`:         {`a"b\c\d$`},
		`'a\'`:                  {`a\`},
		`'$HOME' $HOME * ~`:     {"$HOME", "$HOME", "*", "~"},
		`sh -c "echo 'hi'; ls"`: {"sh", "-c", "echo 'hi'; ls"},
	} {
		got, err := Split(line)
		if err != nil {
			t.Errorf("Split(%q): %v", line, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Split(%q) (-want +got):\n%s", line, d)
		}
	}
	for _, line := range []string{`'a`, `"a`, `a\`, `"a\"`} {
		if got, err := Split(line); err == nil {
			t.Errorf("Split(%q) = %q, want an error", line, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "4096": 4096, "64K": 65536, "64k": 65536, "8M": 8 << 20, "8MiB": 8 << 20, "8MB": 8 << 20, "2 G": 2 << 30, "1T": 1 << 40} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "0", "-1", "1.5M", "1X", "1KM", "9999999999999T", "99999999999999999999"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.png", "a.png", true}, {"*.png", "x/y/a.png", true}, {"*.png", "a.pn", false},
		{"bin/hello", "bin/hello", true}, {"/bin/hello", "bin/hello", true}, {"bin/hello", "x/bin/hello", false},
		{"/hello", "hello", true}, {"/hello", "x/hello", false},
		{"lib", "lib/a/b", true}, {"lib/*", "lib/a/b", true}, {"lib/", "lib/a", true}, {"lib/", "x/lib/a", true}, {"/lib/", "x/lib/a", false},
		{"*", "x", true}, {"*", ".", false},
	} {
		if got := Glob([]string{"none", c.pattern}, c.path); got != c.want {
			t.Errorf("Glob(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
	if CheckGlobs([]string{"[a"}) == nil || CheckGlobs([]string{""}) == nil || CheckGlobs([]string{"a*", "/b/c?"}) != nil {
		t.Error("CheckGlobs is wrong")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("command: /a 'b'\nenv: {A: b}\nrootfs: {compress: lz4, raw: [x]}\nbudgets: {boot: 1s, instructions: 2k}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Parse(b); (c == nil) == (err == nil) {
			t.Errorf("Parse(%q) = %v, %v", b, c, err)
		}
	})
}
