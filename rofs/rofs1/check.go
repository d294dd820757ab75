package rofs1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// Check examines the tables of the file system in the first size bytes of r and all that is between them and the content,
// and calls report for what is wrong. Content has no check codes: what is wrong in it cannot be told. The error is a failed
// read or ctx's.
func Check(ctx context.Context, r io.ReaderAt, size int64, report func(Problem)) error {
	f, err := Open(r, size)
	if fe := (*format.FormatError)(nil); errors.As(err, &fe) {
		report(Problem{fe.Offset, 1, fmt.Sprintf("%s: %v", fe.Field, fe.Err)})
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range f.odd {
		report(p)
	}
	at := int64(0)
	for _, e := range f.extents {
		if e.Offset < at {
			report(Problem{e.Offset, min(at-e.Offset, e.Length), fmt.Sprintf("%s %q: it overlaps what is before it", e.What, e.Path)})
		} else if err := zero(ctx, r, at, e.Offset, report); err != nil {
			return err
		}
		at = max(at, e.Offset+e.Length)
	}
	return zero(ctx, r, at, size, report)
}

// zero reports where bytes from off to end are not zero.
func zero(ctx context.Context, r io.ReaderAt, off, end int64, report func(Problem)) error {
	first, last := int64(-1), int64(0)
	buf := make([]byte, min(end-off, 64<<10))
	for at := off; at < end; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(end-at, int64(len(buf)))]
		if _, err := (device{r}).ReadAt(b, at); err != nil {
			return err
		}
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		for i, c := range b {
			if c != 0 {
				if first < 0 {
					first = at + int64(i)
				}
				last = at + int64(i)
			}
		}
	}
	if first >= 0 {
		report(Problem{first, last - first + 1, "padding is not zero"})
	}
	return nil
}
