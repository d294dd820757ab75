// Package isomod makes images with ISO 9660 available, with Rock Ridge and Joliet names, written by the host's xorriso. Import it for
// its effect on fsmod's registry. docs/linux-images.md says why no library writes them.
//
// Source: ECMA-119; the Rock Ridge Interchange Protocol (IEEE P1282, draft 1.12).
package isomod

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

const (
	tool = "xorriso"
	pkg  = "xorriso"
)

func (module) Name() string { return "iso" }

func (module) Codecs() []string { return nil }

// Write writes names, owners, modes, symbolic links and devices as Rock Ridge has them; Joliet, for other systems, has names only.
// Hard links become files of their own, which share their content. Times are whole seconds.
func (m module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if err := hosttool.Uncompressed("iso", o); err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if len(e.Xattrs) > 0 {
			return fsmod.Result{}, fmt.Errorf("/%s: %w by iso: the extended attribute %s", e.Path, fsmod.ErrUnsupported, e.Xattrs[0].Name)
		}
		if err := m.CanHold(e); err != nil {
			return fsmod.Result{}, err
		}
	}
	return hosttool.FromFolder(ctx, w, t, o, func(string) error {
		_, err := (hosttool.Cmd{Tool: tool, Package: pkg, Args: []string{"-version"}}).Run(ctx)
		return err
	}, func(dir, out string) error {
		// What xorriso would note about this host and this moment is off, and the times that a copy has of itself are set.
		at := hosttool.Seconds(t.Entries[0].ModTime)
		args := []string{"-no_rc", "-report_about", "SORRY", "-acl", "off", "-xattr", "off", "-md5", "off", "-disk_dev_ino", "off", "-hardlinks", "off",
			"-outdev", "stdio:" + out, "-volid", "FIRSTLIGHT", "-joliet", "on", "-compliance", "joliet_long_paths:joliet_long_names", "-padding", "0",
			"-map", dir, "/"}
		if os.Geteuid() != 0 {
			root := &t.Entries[0]
			args = append(args, "-chown_r", fmt.Sprint(root.UID), "/", "--", "-chgrp_r", fmt.Sprint(root.GID), "/", "--")
		}
		args = append(args, "-alter_date_r", "a-c", "="+at, "/", "--", "-commit")
		_, err := (hosttool.Cmd{Tool: tool, Package: pkg, Args: args, Env: []string{"SOURCE_DATE_EPOCH=" + at}}).Run(ctx)
		return err
	})
}

// Probe looks for the primary volume descriptor, in sector 16.
func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	return hosttool.Magic(r, size, 16*2048, "\x01CD001\x01")
}

func extract(img, dir string) hosttool.Cmd {
	return hosttool.Cmd{Tool: tool, Package: pkg, Args: []string{"-no_rc", "-report_about", "SORRY", "-osirrox", "device_files", "-indev", "stdio:" + img, "-extract", "/", dir}}
}

// Open has xorriso extract the file system, and keeps it in memory.
func (m module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	if ok, err := m.Probe(r, size); err != nil || !ok {
		return nil, notISO(err)
	}
	fsys, err := hosttool.Extract(context.Background(), r, size, extract)
	if err != nil {
		return nil, err
	}
	t, err := fsys.Tree()
	if err != nil {
		return nil, err
	}
	root := &t.Entries[0]
	setRoot(r, root)
	if os.Geteuid() != 0 { // as the other files, which no other user can give away
		root.UID, root.GID = 0, 0
	}
	return fsys, nil
}

func notISO(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("iso: byte %d: volume descriptor: %w: none of ISO 9660", 16*2048, fsmod.ErrDamaged)
}

// Check has xorriso extract everything; the format has no check codes.
func (m module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	ok, err := m.Probe(r, size)
	if err != nil {
		return nil, err
	}
	if !ok {
		return []fsmod.Problem{{Offset: 16 * 2048, Length: 1, What: notISO(nil).Error()}}, nil
	}
	return hosttool.Check(ctx, r, size, extract)
}
