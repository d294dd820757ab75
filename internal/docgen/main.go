// Command docgen writes the reference of imgbuild and bootprof from the commands themselves: DIR/cli/*.md and DIR/man/*.1.
// With -check it writes nothing, and names the files that are not as they should be.
//
//	go run ./internal/docgen [-check] DIR
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/internal/cli/bootprof"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if a file is not up to date")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: docgen [-check] DIR")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *check); err != nil {
		fmt.Fprintf(os.Stderr, "docgen: %v\n", err)
		os.Exit(1)
	}
}

// generate returns all files by their paths below the folder.
func generate() map[string]string {
	files := map[string]string{}
	index := "<!-- Made by make docs from the commands themselves. -->\n\n# The commands\n"
	for _, cmd := range slices.Concat(pages(imgbuild.Command()), pages(bootprof.Command())) {
		files["cli/"+cmd.name()+".md"] = markdown(cmd)
		files["man/"+cmd.name()+".1"] = man(cmd)
		if !strings.Contains(cmd.path, " ") {
			index += "\n"
		}
		index += fmt.Sprintf("- [%s](%s.md): %s\n", cmd.path, cmd.name(), plainMarkdown(lower(cmd.short)))
	}
	files["cli/README.md"] = index + "\n`imgbuild completion SHELL` and `bootprof completion SHELL` print completions for bash, zsh and fish; `make install`\ninstalls them with the man pages.\n"
	return files
}

func run(dir string, check bool) error {
	files := generate()
	var stale []string
	for _, path := range slices.Sorted(maps.Keys(files)) {
		full := filepath.Join(dir, path)
		old, err := os.ReadFile(full)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && bytes.Equal(old, []byte(files[path])) {
			continue
		}
		stale = append(stale, full)
		if check {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(files[path]), 0o666); err != nil {
			return err
		}
	}
	// What no command makes any more goes.
	for _, pattern := range []string{"cli/*.md", "man/*.1"} {
		there, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, full := range there {
			path, err := filepath.Rel(dir, full)
			if err != nil {
				return err
			}
			if _, ok := files[filepath.ToSlash(path)]; ok {
				continue
			}
			stale = append(stale, full)
			if !check {
				if err := os.Remove(full); err != nil {
					return err
				}
			}
		}
	}
	if check && len(stale) > 0 {
		return fmt.Errorf("make docs is due for:\n%s", strings.Join(stale, "\n"))
	}
	return nil
}
