package vfs

// Text is a line under construction. It stands in for fmt, which the path to the program cannot afford.
type Text []byte

// Str appends s.
func (t *Text) Str(s string) *Text {
	*t = append(*t, s...)
	return t
}

// Dec appends n in decimal.
func (t *Text) Dec(n uint64) *Text { return t.DecPad(n, 0) }

// DecPad appends n in decimal, padded with spaces on the left to width bytes (at most 20).
func (t *Text) DecPad(n uint64, width int) *Text {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = '0' + byte(n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	for len(b)-i < width && i > 0 {
		i--
		b[i] = ' '
	}
	*t = append(*t, b[i:]...)
	return t
}

// Hex appends n in lower-case hexadecimal with at least width digits (at most 16).
func (t *Text) Hex(n uint64, width int) *Text {
	for shift := 60; shift >= 0; shift -= 4 {
		if n>>shift != 0 || shift < 4*width || shift == 0 {
			*t = append(*t, "0123456789abcdef"[n>>shift&15])
		}
	}
	return t
}

// Oct appends n in octal with at least width digits (at most 22).
func (t *Text) Oct(n uint64, width int) *Text {
	for shift := 63; shift >= 0; shift -= 3 {
		if n>>shift != 0 || shift < 3*width || shift == 0 {
			*t = append(*t, '0'+byte(n>>shift&7))
		}
	}
	return t
}
