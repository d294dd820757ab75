//go:build unix

package tree

import (
	"io/fs"
	"syscall"
	"time"
)

// Options say how a source becomes a tree. The zero value is right for an image that anybody can make again: everything
// belongs to root, and device nodes are refused.
type Options struct {
	// UID and GID own every entry, unless KeepOwner is set: an image should not depend on who built it.
	UID, GID uint32
	// KeepOwner takes the owners that the source has.
	KeepOwner bool
	// ClampTime, unless zero, is the latest modification time: later ones are lowered to it, as
	// https://reproducible-builds.org/specs/source-date-epoch/ asks for SOURCE_DATE_EPOCH.
	ClampTime time.Time
	// Exclude leaves entries of a directory out. A pattern is path.Match's. One without a slash is matched with each name at
	// any depth; one with a slash with the whole path from the root, where a slash at either end says no more than that: "*.o",
	// "/imgbuild.yaml", "var/cache/*". What an excluded directory holds is left out with it.
	Exclude []string
	// Devices lets device nodes in.
	Devices bool
}

// owner returns the owner of what info describes, which comes from the operating system.
func (o *Options) owner(info fs.FileInfo) (uid, gid uint32) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && o.KeepOwner {
		return st.Uid, st.Gid
	}
	return o.UID, o.GID
}

func (o *Options) time(t time.Time) time.Time {
	if !o.ClampTime.IsZero() && t.After(o.ClampTime) {
		return o.ClampTime
	}
	return t
}
