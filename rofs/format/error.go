package format

// Error is a sentinel: a constant string that is an error, so that no package of the kernel needs initialising for it.
type Error string

func (e Error) Error() string { return string(e) }

// What a *FormatError wraps. A failing device is none of these: its own error comes back as it is.
const (
	ErrFormat      Error = "malformed"
	ErrUnsupported Error = "unsupported"
	ErrChecksum    Error = "check code mismatch"
	ErrTooLarge    Error = "too large"
	ErrTruncated   Error = "truncated"
)

// FormatError says where an image is wrong.
type FormatError struct {
	Format string // "rofs"
	Offset int64  // in bytes from the start of the image
	Field  string // what was being read there
	Err    error  // one of the sentinels
}

// Corrupt returns a *FormatError of this format.
func Corrupt(offset int64, field string, err error) error {
	return &FormatError{Format: "rofs", Offset: offset, Field: field, Err: err}
}

func (e *FormatError) Unwrap() error { return e.Err }

func (e *FormatError) Error() string {
	msg := e.Format + ": " + e.Field + " at byte " + itoa(e.Offset)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// itoa stands in for strconv, which the kernel's leaf packages do not link.
func itoa(n int64) string {
	var buf [20]byte
	i := len(buf)
	u := uint64(n)
	if n < 0 {
		u = -u
	}
	for {
		i--
		buf[i] = byte('0' + u%10)
		u /= 10
		if u == 0 {
			break
		}
	}
	if n < 0 {
		i--
		buf[i] = '-'
	}
	return string(buf[i:])
}
