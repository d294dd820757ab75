package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/internal/cli/bootprof"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

func TestGenerate(t *testing.T) {
	files := generate()
	if !maps.Equal(files, generate()) {
		t.Error("a second run writes other files")
	}
	for _, want := range []string{"cli/README.md", "cli/bootprof.md", "cli/bootprof-qemu.md", "man/bootprof-hyperkit.1", "man/imgbuild.1", "man/imgbuild-ls.1"} {
		if files[want] == "" {
			t.Errorf("there is no %s", want)
		}
	}
	link := regexp.MustCompile(`\]\(([^)]*)\)`)
	for path, text := range files {
		if strings.Contains(text, "\t") || strings.Contains(text, "\r") || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s has tabs, or no newline at its end", path)
		}
		if wd, err := os.Getwd(); err != nil || strings.Contains(text, filepath.Dir(filepath.Dir(wd))) {
			t.Errorf("%s has a path of this machine", path)
		}
		if !strings.HasSuffix(path, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if files["cli/"+m[1]] == "" {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	}
}

// TestEveryFlag looks for each flag of each command in both its pages.
func TestEveryFlag(t *testing.T) {
	files := generate()
	for _, root := range []*cobra.Command{imgbuild.Command(), bootprof.Command()} {
		for _, p := range pages(root) {
			for _, f := range p.flags {
				if md := files["cli/"+p.name()+".md"]; !strings.Contains(md, "`--"+f.long) || f.short != "" && !strings.Contains(md, "`-"+f.short+"`, `--"+f.long) {
					t.Errorf("%s.md has no --%s", p.name(), f.long)
				}
				if page := files["man/"+p.name()+".1"]; !strings.Contains(page, `\fB\-\-`+strings.ReplaceAll(f.long, "-", `\-`)+`\fR`) {
					t.Errorf("%s.1 has no --%s", p.name(), f.long)
				}
			}
		}
	}
}

// TestHostileText has what Markdown and roff take for their own.
func TestHostileText(t *testing.T) {
	var size string
	cmd := &cobra.Command{
		Use: "tool [flags]", Short: "It's a *tool* with a \\ and _x_",
		Long:    ".begins with a period\n'and a quote\n\n  verbatim\n    .more\n\nuses <a> | [b](c) `d` – 世\n\n\n",
		Example: "  tool 'a' \\n\n  .hidden ^ ~",
		Run:     func(*cobra.Command, []string) {},
	}
	cmd.Flags().StringVarP(&size, "size", "s", "a\\b", ".what `SIZE` it's of")
	p := pages(cmd)[0]
	wantMD := "<!-- Made by make docs from the command itself. -->\n\n# tool\n\nIt's a \\*tool\\* with a \\\\ and \\_x\\_.\n\n    tool [flags]\n\n" +
		".begins with a period 'and a quote\n\n    verbatim\n      .more\n\nuses &lt;a&gt; \\| \\[b\\](c) \\`d\\` – 世\n\n" +
		"## Examples\n\n    tool 'a' \\n\n    .hidden ^ ~\n\n## Options\n\n- `-h`, `--help`: help for tool\n- `-s`, `--size SIZE`: .what SIZE it's of (default a\\\\b)\n"
	if diff := cmp.Diff(wantMD, markdown(p)); diff != "" {
		t.Errorf("Markdown (-want +got):\n%s", diff)
	}
	wantMan := `.\" Made by make docs from the command itself.
.TH "TOOL" 1 "" Firstlight "Firstlight"
.SH NAME
tool \- it\(aqs a *tool* with a \e and _x_
.SH SYNOPSIS
\fBtool\fR [flags]
.SH DESCRIPTION
\&.begins with a period \(aqand a quote
.PP
.RS 4
.nf
verbatim
  .more
.fi
.RE
.PP
uses <a> | [b](c) \(gad\(ga \[u2013] \[u4E16]
.SH OPTIONS
.TP
\fB\-h\fR, \fB\-\-help\fR
help for tool
.TP
\fB\-s\fR, \fB\-\-size\fR \fISIZE\fR
\&.what SIZE it\(aqs of (default a\eb)
.SH EXAMPLES
.PP
.RS 4
.nf
tool \(aqa\(aq \en
\&.hidden \(ha \(ti
.fi
.RE
`
	if diff := cmp.Diff(wantMan, man(p)); diff != "" {
		t.Errorf("man page (-want +got):\n%s", diff)
	}
}

// TestManPages has groff judge each page.
func TestManPages(t *testing.T) {
	needs.Tool(t, "groff", "groff-base")
	dir := t.TempDir()
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man", "*.1"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, path := range pages {
		msg, err := exec.Command("groff", "-man", "-ww", "-z", "-Tutf8", path).CombinedOutput()
		if err != nil || len(msg) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(path), err, msg)
		}
	}
	out, err := exec.Command("groff", "-man", "-Tascii", "-P-c", filepath.Join(dir, "man", "bootprof-qemu.1")).Output()
	out = regexp.MustCompile(".\x08").ReplaceAll(out, nil) // how a typewriter prints bold
	if err != nil || !strings.Contains(string(out), "--profile-runs") || !strings.Contains(string(out), "bootprof qemu app.img -n 20 --until exit") {
		t.Errorf("bootprof-qemu(1) reads (%v):\n%s", err, out)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), "make docs is due for:") {
		t.Errorf("an empty folder is up to date: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Error("-check wrote something")
	}
	for range 2 {
		if err := run(dir, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(dir, true); err != nil {
		t.Errorf("what was just written: %v", err)
	}
	page, gone := filepath.Join(dir, "cli", "bootprof.md"), filepath.Join(dir, "man", "bootprof-gone.1")
	for _, path := range []string{page, gone} {
		if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), page) || !strings.Contains(err.Error(), gone) || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("two stale files: %v", err)
	}
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("a page of no command stays")
	}
	if err := run(page, false); err == nil {
		t.Error("a file is taken for a folder")
	}
}
