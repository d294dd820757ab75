package boottrace

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
)

// Write writes the recording in the format of `recording.fl`. The same recording gives the same bytes.
func Write(w io.Writer, r *Recording) error {
	if err := r.CheckValid(); err != nil {
		return err
	}
	var h header
	h.setMagic()
	h.setVersion(version)
	h.setCheck(h.sum())
	if _, err := w.Write(h[:]); err != nil {
		return err
	}
	if err := writeJSON(w, tagBoot, r); err != nil {
		return err
	}
	for i := range r.Runs {
		if err := writeJSON(w, tagRun, &r.Runs[i]); err != nil {
			return err
		}
	}
	return writeSection(w, tagEnd, nil)
}

func writeJSON(w io.Writer, tag [4]byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(raw) > maxRaw {
		return fmt.Errorf("recording: %w: a section of %d bytes", ErrTooLarge, len(raw))
	}
	return writeSection(w, tag, raw)
}

func writeSection(w io.Writer, tag [4]byte, raw []byte) error {
	var stored bytes.Buffer
	if len(raw) > 0 {
		// Neither can fail: the level is a valid one, and the writer is memory.
		z, _ := flate.NewWriter(&stored, flate.DefaultCompression)
		z.Write(raw)
		z.Close()
	}
	var s section
	s.setTag(tag)
	s.setStored(uint64(stored.Len()))
	s.setRawLen(uint64(len(raw)))
	s.setCheck(s.sum(stored.Bytes()))
	if _, err := w.Write(s[:]); err != nil {
		return err
	}
	_, err := w.Write(stored.Bytes())
	return err
}
