// Package fatmod makes images with FAT available, written by the host's mkfs.fat and mcopy. Import it for its effect on fsmod's
// registry. docs/linux-images.md says why no library writes them.
//
// FAT has neither owners nor modes: those of a tree are lost. What it cannot hold otherwise is refused by name.
//
// Source: Microsoft, FAT: General Overview of On-Disk Format, version 1.03.
package fatmod

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

const (
	mkfsPkg  = "dosfstools"
	mtools   = "mtools"
	cluster  = 4096
	maxFile  = 1<<32 - 1
	maxName  = 255   // UTF-16 units
	maxRoot  = 65520 // entries of a root folder of FAT12 and FAT16
	slack    = 64    // clusters between what is needed and the least and the most of a type
	fat16Min = 4085  // clusters
	fat32Min = 65525
	fat32Max = 0x0ffffff4
)

func (module) Name() string { return "fat" }

func (module) Codecs() []string { return nil }

// Write writes times in steps of two seconds from 1980 to 2107; others become the nearest of these.
func (module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if err := hosttool.Uncompressed("fat", o); err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	plain, args, err := plan(t)
	if err != nil {
		return fsmod.Result{}, err
	}
	return hosttool.FromFolder(ctx, w, plain, o, func(out string) error {
		args := append([]string{"--invariant", "-a", "-C"}, args...)
		args = append(args[:len(args)-1], out, args[len(args)-1])
		_, err := (hosttool.Cmd{Tool: "mkfs.fat", Package: mkfsPkg, Args: args}).Run(ctx)
		return err
	}, func(dir, out string) error {
		// Folders get the time that SOURCE_DATE_EPOCH says.
		env := []string{"SOURCE_DATE_EPOCH=" + hosttool.Seconds(plain.Entries[0].ModTime), "MTOOLS_SKIP_CHECK=1"}
		names, err := os.ReadDir(dir) // sorted
		if err != nil {
			return err
		}
		for _, n := range names {
			if _, err := (hosttool.Cmd{Tool: "mcopy", Package: mtools, Env: env, Dir: dir, Args: []string{"-i", out, "-s", "-m", "-Q", "./" + n.Name(), "::/"}}).Run(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// plan checks that FAT can hold t, and returns it without what gets lost, and mkfs.fat's arguments, of which the last is the size in
// units of 1024 bytes.
func plan(t *tree.Tree) (*tree.Tree, []string, error) {
	entries := make([]tree.Entry, len(t.Entries))
	folded := make(map[string]string) // paths in lower case
	clusters, root := int64(0), int64(1)
	slots := make(map[string]int64) // entries of 32 bytes, by folder
	for i, e := range t.Entries {
		refuse := func(format string, args ...any) (*tree.Tree, []string, error) {
			return nil, nil, fmt.Errorf("/%s: %w by fat: %s", e.Path, fsmod.ErrUnsupported, fmt.Sprintf(format, args...))
		}
		name, units := path.Base(e.Path), 0
		for _, r := range name {
			if r < ' ' || r == 0x7f || r > 0xffff || strings.ContainsRune(`"*:<>?\|`, r) {
				return refuse("the character %q in a name", r)
			}
			units++
		}
		lower := strings.ToLower(e.Path)
		switch {
		case e.HardLink != "":
			return refuse("a hard link, to /%s", e.HardLink)
		case e.Mode.Type() == fs.ModeSymlink:
			return refuse("a symbolic link")
		case !e.Mode.IsDir() && !e.Mode.IsRegular():
			return refuse("a file of type %v", e.Mode.Type())
		case len(e.Xattrs) > 0:
			return refuse("the extended attribute %s", e.Xattrs[0].Name)
		case !utf8.ValidString(name):
			return refuse("a name that is not UTF-8")
		case units > maxName:
			return refuse("a name of %d characters; the most is %d", units, maxName)
		case e.Path != "." && strings.TrimRight(name, ". ") != name:
			return refuse("a name that ends in a dot or a space")
		case e.Size > maxFile:
			return refuse("a file of %d bytes; the most is %d", e.Size, int64(maxFile))
		case folded[lower] != "":
			return refuse("a name that differs from /%s in case only", folded[lower])
		}
		folded[lower] = e.Path
		if e.Path != "." {
			slots[path.Dir(e.Path)] += 2 + int64(units)/13
		}
		clusters += (e.Size + cluster - 1) / cluster
		mode := fs.FileMode(0o644)
		if e.Mode.IsDir() {
			mode = fs.ModeDir | 0o755
		}
		at := e.ModTime
		if first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); at.Before(first) {
			at = first
		}
		if last := time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC); at.After(last) {
			at = last
		}
		entries[i] = tree.Entry{Path: e.Path, Mode: mode, ModTime: at, Size: e.Size, Source: e.Source}
	}
	for dir, n := range slots {
		if dir == "." {
			root += n
			continue
		}
		if n+2 > 65536 {
			return nil, nil, fmt.Errorf("/%s: %w by fat: a folder of %d entries; the most is 65536", dir, fsmod.ErrUnsupported, n)
		}
	}
	for i := range entries {
		if e := &entries[i]; e.Mode.IsDir() && e.Path != "." {
			clusters += ((slots[e.Path]+2)*32 + cluster - 1) / cluster
		}
	}
	clusters += slack
	root = (root + 15 + 112) &^ 15
	bits, entry := 12, int64(2)
	switch {
	case clusters >= fat32Min-slack || root > maxRoot:
		bits, entry = 32, 4
		clusters = max(clusters+root*32/cluster, fat32Min+slack)
	case clusters >= fat16Min-slack:
		bits = 16
		clusters = max(clusters, fat16Min+slack)
	}
	if clusters > fat32Max {
		return nil, nil, fmt.Errorf("%d clusters: %w by fat; the most is %d", clusters, fsmod.ErrUnsupported, fat32Max)
	}
	args := []string{"-F", strconv.Itoa(bits), "-s", strconv.Itoa(cluster / 512), "-S", "512"}
	if bits < 32 {
		args = append(args, "-r", strconv.FormatInt(root, 10))
	}
	kib := (clusters*(cluster+2*entry)+root*32)/1024 + 32
	plain, err := tree.New(entries...)
	return plain, append(args, strconv.FormatInt((kib+3)&^3, 10)), err
}

// Probe looks at the boot sector: its jump, the sizes of sectors and clusters, the number of tables, and the mark at its end.
func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, 512)
	if size < int64(len(b)) {
		return false, nil
	}
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	sector := binary.LittleEndian.Uint16(b[11:])
	return (b[0] == 0xeb || b[0] == 0xe9) && sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 && b[13] != 0 && b[13]&(b[13]-1) == 0 &&
		b[16] >= 1 && b[16] <= 2 && b[21] >= 0xf0 && b[510] == 0x55 && b[511] == 0xaa, nil
}

// Open has mcopy extract the file system, and keeps it in memory.
func (m module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	if ok, err := m.Probe(r, size); err != nil || !ok {
		return nil, notFAT(err)
	}
	return hosttool.Extract(context.Background(), r, size, func(img, dir string) hosttool.Cmd {
		return hosttool.Cmd{Tool: "mcopy", Package: mtools, Args: []string{"-i", img, "-s", "-m", "-n", "::/", dir}}
	})
}

func notFAT(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("fat: byte 0: boot sector: %w: none of a FAT file system", fsmod.ErrDamaged)
}

// Check has fsck.fat look, which does not read the files' content; that has no check codes.
func (m module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	ok, err := m.Probe(r, size)
	if err != nil {
		return nil, err
	}
	if !ok {
		return []fsmod.Problem{{Length: 1, What: notFAT(nil).Error()}}, nil
	}
	return hosttool.Check(ctx, r, size, func(img, _ string) hosttool.Cmd {
		return hosttool.Cmd{Tool: "fsck.fat", Package: mkfsPkg, Args: []string{"-n", img}}
	})
}
