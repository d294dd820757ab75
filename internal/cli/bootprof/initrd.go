package bootprof

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/u-root/u-root/pkg/cpio"
)

// maxInitrd bounds an initial RAM disk, unpacked.
const maxInitrd = 1 << 30

// initrdPrograms calls f with the ELF files of an initial RAM disk.
func initrdPrograms(name string, f func(name string, content []byte) error) error {
	return initrdFiles(name, func(name string, content []byte) error {
		if !isProgram(content) {
			return nil
		}
		return f(name, content)
	})
}

// initrdFiles calls f with the regular files of an initial RAM disk: archives one behind the other, each of which may be compressed, as
// Linux takes them (Documentation/driver-api/early-userspace/buffer-format.rst). Archives that are compressed in a way that is not
// known here are an error.
func initrdFiles(name string, f func(name string, content []byte) error) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for len(b) > 0 {
		if b[0] == 0 {
			b = b[1:] // padding
			continue
		}
		if end := newcEnd(b); end > 0 {
			if err := archiveFiles(b[:end], f); err != nil {
				return err
			}
			b = b[end:]
			continue
		}
		if b, err = unpackInitrd(b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// unpackInitrd decompresses what is left of an initial RAM disk.
func unpackInitrd(b []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")):
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27)); err == nil {
			defer z.Close()
			r = z
		}
	case bytes.HasPrefix(b, []byte("\x02\x21\x4c\x18")), bytes.HasPrefix(b, []byte("\x04\x22\x4d\x18")):
		r = lz4.NewReader(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte("BZh")):
		r = bzip2.NewReader(bytes.NewReader(b))
	default:
		return nil, fmt.Errorf("neither a newc archive nor one compressed by gzip, zstd, lz4 or bzip2 (it begins with %x); its programs will have no names", b[:min(4, len(b))])
	}
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(r, maxInitrd+1))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	case len(b) > maxInitrd:
		return nil, fmt.Errorf("it is larger than %d MiB unpacked", maxInitrd>>20)
	case newcEnd(b) == 0:
		return nil, fmt.Errorf("there is no newc archive in it")
	}
	return b, nil
}

// newcEnd returns how long the archive in format newc is that b begins with; 0 if it begins with none.
func newcEnd(b []byte) int {
	const header = 110
	align := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for at := uint64(0); at+header <= uint64(len(b)); {
		h := b[at:]
		nameSize, err1 := strconv.ParseUint(string(h[94:102]), 16, 32)
		fileSize, err2 := strconv.ParseUint(string(h[54:62]), 16, 32)
		if m := string(h[:6]); m != "070701" && m != "070702" || err1 != nil || err2 != nil || header+nameSize > uint64(len(h)) {
			return 0
		}
		name := h[header:][:nameSize]
		at += align(align(header+nameSize) + fileSize)
		if bytes.HasPrefix(name, []byte(cpio.Trailer)) {
			return int(min(at, uint64(len(b))))
		}
	}
	return 0
}

// archiveFiles calls f with the regular files of an archive.
func archiveFiles(b []byte, f func(name string, content []byte) error) error {
	r := cpio.Newc.Reader(bytes.NewReader(b))
	for {
		rec, err := r.ReadRecord()
		if err != nil {
			return nil // the end, or what Linux would not read either
		}
		if rec.Mode&cpio.S_IFMT != cpio.S_IFREG || rec.FileSize > uint64(len(b)) {
			continue
		}
		content := make([]byte, rec.FileSize)
		if n, err := rec.ReadAt(content, 0); uint64(n) < rec.FileSize || err != nil && err != io.EOF {
			continue
		}
		if err := f(path.Join("/", strings.TrimRight(rec.Name, "\x00")), content); err != nil {
			return err
		}
	}
}
