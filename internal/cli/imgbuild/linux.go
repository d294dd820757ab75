package imgbuild

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	_ "github.com/firstlight-boot/firstlight/fsmod/erofsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ext4mod"
	_ "github.com/firstlight-boot/firstlight/fsmod/fatmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/isomod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod" // a root in RAM, which is also Linux's initial RAM file system
	_ "github.com/firstlight-boot/firstlight/fsmod/squashfsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/tree"
)

// linuxMemory is the guest's memory in bytes unless the user says otherwise: what a small Linux takes, to which comes twice the
// content of a root in RAM, which is there packed and unpacked for a while.
const linuxMemory = 256 << 20

// linuxCommand is command for an app that Linux runs: its own /init comes first, and programs may need libraries or be scripts.
func (a *app) linuxCommand(words []string) ([]string, error) {
	a.linux = true
	if len(words) == 0 {
		first := "/init"
		if info, err := a.tree.Stat("init"); err != nil || !info.Mode().IsRegular() {
			if first, err = a.onlyExecutable(); err != nil {
				return nil, err
			}
		}
		words = []string{first}
	}
	return a.command(words)
}

// checkLinuxProgram tells why Linux cannot run a file that is regular and executable; the error goes on after its name.
func (a *app) checkLinuxProgram(e *tree.Entry) error {
	x, err := a.tree.ReadELF(e)
	what, helper := "is dynamically linked", x.Interp
	if errors.Is(err, tree.ErrNotELF) {
		line, ok := a.scriptLine(e)
		if !ok {
			return usagef("is neither an ELF program nor a script")
		}
		words := strings.Fields(strings.TrimPrefix(line, "#!"))
		if len(words) == 0 {
			return usagef("is a script without an interpreter")
		}
		what, helper, err = "is a script", words[0], nil
	} else if err == nil && x.Interp == "" {
		if err := x.Runnable(); err != nil {
			return usageError{err}
		}
		return nil
	}
	if err != nil {
		return usagef("cannot be run: %w", err)
	}
	if x.Interp != "" && x.Machine != elf.EM_X86_64 {
		return usagef("is for another machine (%v), and the guest is an x86-64", x.Machine)
	}
	if info, err := a.tree.Stat(treePath(helper)); err != nil || !info.Mode().IsRegular() {
		return usagef("%s and needs %s, which is not in %s", what, printable(helper), a.source)
	}
	return nil
}

// completeLinux adds to the app what Linux wants in a root: /init, which is the program, for whoever boots the file system
// without the image's command line; /dev; and in a root in RAM the console, from which the first program gets its standard
// streams; and where initial RAM disks move what they have mounted. What is there stays.
func (a *app) completeLinux(module, program string, initrd bool) error {
	t := a.tree
	at := t.Entries[0].ModTime
	entries := slices.Clone(t.Entries)
	add := func(e tree.Entry) {
		if t.Lookup(e.Path) == nil {
			e.ModTime = at
			entries = append(entries, e)
		}
	}
	folders := []string{"dev"}
	if initrd {
		folders = append(folders, "proc", "run", "sys")
	}
	for _, name := range folders {
		add(tree.Entry{Path: name, Mode: fs.ModeDir | 0o755})
	}
	if module == "ramfs" {
		add(tree.Entry{Path: "init", Mode: fs.ModeSymlink | 0o777, Link: path.Clean(program)})
		if dev := t.Lookup("dev"); dev == nil || dev.Mode.IsDir() {
			add(tree.Entry{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1})
		}
	}
	var err error
	a.tree, err = tree.New(entries...)
	return err
}

// planInitrd reads the initial RAM disk.
func (o *buildOptions) planInitrd(p *plan) error {
	if o.initrd == "" {
		return nil
	}
	if o.flavour != image.FlavourLinux || p.spec.Module.Name() == "ramfs" {
		return usagef("--initrd is for kernels of flavour %s with a root on the disk, as by --fs ext4; a RAMFS root is an initial RAM disk itself", image.FlavourLinux)
	}
	st, err := os.Stat(o.initrd)
	switch {
	case err != nil:
	case !st.Mode().IsRegular() || st.Size() == 0:
		err = fmt.Errorf("%s: not a regular file with content", o.initrd)
	case st.Size() > image.MaxInitrd:
		err = fmt.Errorf("%s is %s long; the most is %s", o.initrd, formatSize(st.Size()), formatSize(image.MaxInitrd))
	default:
		p.spec.Initrd, err = os.ReadFile(o.initrd)
	}
	if err != nil {
		return usageError{fmt.Errorf("--initrd: %w", err)}
	}
	return nil
}

// planLinux settles what is special about an image for Linux, once the rest is.
func (o *buildOptions) planLinux(p *plan) error {
	params, module := &p.spec.Params, p.spec.Module.Name()
	if params.Append = o.line; o.line == "" {
		params.Append = image.LinuxAppend
	}
	if params.Machine.MemoryBytes == 0 {
		_, content := p.app.size()
		const step = 64 << 20
		params.Machine.MemoryBytes = linuxMemory
		if module == "ramfs" {
			params.Machine.MemoryBytes += 2 * content / step * step
		}
	}
	params.Root.Module = module
	if _, err := params.LinuxCommandLine(""); err != nil {
		return usageError{err}
	}
	if err := p.app.completeLinux(module, params.Args[0], p.spec.Initrd != nil); err != nil {
		return err
	}
	p.spec.Tree = p.app.tree
	return nil
}
