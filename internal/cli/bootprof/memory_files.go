package bootprof

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/qemu/guestmem"
)

// maxContents bounds how much of the guest's files, and of its disks and initial RAM disk, is compared with its memory, in bytes each.
const maxContents = 256 << 20

// contents is what the guest's files and disks hold, in blocks of a page, to find them in memory. Blocks of zeros are left out.
type contents struct {
	files    map[guestmem.Sum]block
	disks    map[guestmem.Sum]bool
	initrd   map[guestmem.Sum]bool
	packed   map[guestmem.Sum]bool // of a bzImage's protected-mode code, which lies at a page's start
	programs []program             // of files
	left     bool                  // some were too much
}

// block is where a block was found first.
type block struct {
	file int
	off  uint64
}

// program is an ELF file's segments; nil if the file is none.
type program []elf.ProgHeader

// readContents reads what a boot's guest may have in its memory. What cannot be read is not looked for.
func (p *plan) readContents() *contents {
	c := &contents{files: make(map[guestmem.Sum]block)}
	left := int64(maxContents)
	err := p.target.eachFile(p.config.Initrd, func(r io.Reader) error {
		file := len(c.programs)
		head := new(bytes.Buffer)
		n, err := eachBlock(io.TeeReader(io.LimitReader(r, left), &limited{head, maxHeaders}), func(sum guestmem.Sum, off uint64) {
			if _, ok := c.files[sum]; !ok {
				c.files[sum] = block{file, off}
			}
		})
		c.programs = append(c.programs, segments(head.Bytes()))
		if left -= n; left <= 0 {
			return fs.SkipAll
		}
		return err
	})
	c.left = left <= 0 || err != nil && !errors.Is(err, fs.SkipAll)
	raw := func(names []string, off int64) map[guestmem.Sum]bool {
		sums := make(map[guestmem.Sum]bool)
		left := int64(maxContents)
		for _, name := range names {
			if name != "" {
				left -= readBlocks(name, off, left, sums)
			}
		}
		c.left = c.left || left <= 0
		return sums
	}
	c.disks = raw(p.config.Disks, 0)
	c.initrd = raw([]string{p.config.Initrd}, 0)
	if p.target.unpackAt > 0 {
		c.packed = raw([]string{p.target.kernel}, p.target.unpackAt)
	}
	return c
}

// readBlocks reads the blocks of a file of the host from an offset on, and returns how many bytes that was.
func readBlocks(name string, off, limit int64, into map[guestmem.Sum]bool) int64 {
	f, err := os.Open(name)
	if err != nil {
		return 0 // the boot needed it, so it went away since
	}
	defer f.Close()
	n, _ := eachBlock(io.NewSectionReader(f, off, limit), func(sum guestmem.Sum, _ uint64) { into[sum] = true })
	return n
}

// eachBlock calls f with the sums of a content's blocks, the last one padded with zeros, but for those of zeros.
func eachBlock(r io.Reader, f func(sum guestmem.Sum, off uint64)) (n int64, err error) {
	page := make([]byte, pageSize)
	for {
		k, err := io.ReadFull(r, page)
		clear(page[k:])
		if sum := guestmem.SumOf(page); k > 0 && sum != (guestmem.Sum{}) {
			f(sum, uint64(n))
		}
		n += int64(k)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// limited is a writer that keeps the first bytes.
type limited struct {
	*bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), l.max-l.Len())])
	return len(p), nil
}

// maxHeaders is how far into an ELF file its program headers may reach, in bytes. They come first in any that is executed.
const maxHeaders = 64 << 10

// segments returns what an ELF file's headers load, nil if it is none.
func segments(head []byte) program {
	e, err := elf.NewFile(bytes.NewReader(withoutSections(head)))
	if err != nil {
		return nil
	}
	var p program
	for _, s := range e.Progs {
		if s.Type == elf.PT_LOAD {
			p = append(p, s.ProgHeader)
		}
	}
	return p
}

// withoutSections returns an ELF file's start as a file that has no sections, which would lie behind it.
func withoutSections(head []byte) []byte {
	const shoff, shnum = 40, 60 // of ELF64: e_shoff, and e_shnum and e_shstrndx
	if len(head) < 64 {
		return nil
	}
	head = bytes.Clone(head)
	clear(head[shoff : shoff+8])
	clear(head[shnum : shnum+4])
	return head
}

// eachFile calls f with the files of the target's root file system, or of the initial RAM disk, for as long as it returns no error.
func (t *target) eachFile(initrd string, f func(io.Reader) error) error {
	switch {
	case t.params != nil:
		img, err := image.Open(t.name)
		if err != nil {
			return err
		}
		defer img.Close()
		root, err := img.Root()
		if err != nil {
			return err
		}
		return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			file, err := root.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			return f(file)
		})
	case initrd != "":
		return initrdFiles(initrd, func(_ string, content []byte) error { return f(bytes.NewReader(content)) })
	}
	return nil
}
