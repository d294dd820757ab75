package tree

import "io/fs"

// unixBits are the bits of st_mode besides the permissions, after inode(7).
var unixBits = []struct {
	mode fs.FileMode
	unix uint32
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

// unixTypes are the types of st_mode of what a tree may hold.
var unixTypes = []struct {
	mode fs.FileMode
	unix uint32
}{
	{0, 0o100000}, {fs.ModeDir, 0o40000}, {fs.ModeSymlink, 0o120000}, {fs.ModeNamedPipe, 0o10000},
	{fs.ModeDevice, 0o60000}, {fs.ModeDevice | fs.ModeCharDevice, 0o20000},
}

// UnixMode returns m as stat(2) has it: type, setuid, setgid, sticky and permission bits. Types that no tree holds become 0.
func UnixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, t := range unixTypes {
		if m.Type() == t.mode {
			u |= t.unix
		}
	}
	for _, b := range unixBits {
		if m&b.mode != 0 {
			u |= b.unix
		}
	}
	return u
}

// FileMode is the inverse of UnixMode; ok is false for a type that no tree holds, and for bits that st_mode has not.
func FileMode(u uint32) (m fs.FileMode, ok bool) {
	m = fs.FileMode(u & 0o777)
	for _, b := range unixBits {
		if u&b.unix != 0 {
			m |= b.mode
		}
	}
	for _, t := range unixTypes {
		if u&^0o7777 == t.unix {
			return m | t.mode, true
		}
	}
	return 0, false
}
