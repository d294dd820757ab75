package bootprof

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/profile"
)

// Names of the files in the output folder.
const (
	fileRecording = "recording.fl"
	fileBoot      = "boot.pb.gz"
	fileMemory    = "memory.pb.gz"
)

// folder is where the recording and the profiles go.
type folder struct {
	path string
	made bool // by us: it goes again if nothing is written
}

// openFolder makes the folder if need be, and finds out whether files can be made in it: before the boot, not after it.
func openFolder(path string) (*folder, error) {
	d := &folder{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		d.made = true
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, usagef("cannot write profiles: %w; name another folder with -o", err)
	}
	f, err := os.CreateTemp(path, ".bootprof-*.tmp")
	if err != nil {
		d.giveUp()
		return nil, usagef("cannot write profiles: %w; name another folder with -o", err)
	}
	f.Close()
	os.Remove(f.Name())
	return d, nil
}

// giveUp removes the folder if it was made for nothing.
func (d *folder) giveUp() {
	if d.made {
		os.Remove(d.path) // which fails if somebody has put something into it
	}
}

// write writes the recording and its profiles, and returns their paths.
func (d *folder) write(rec *boottrace.Recording) (paths []string, err error) {
	add := func(name string, write func(io.Writer) error) {
		if err == nil {
			path := filepath.Join(d.path, name)
			if err = writeFile(path, write); err == nil {
				paths = append(paths, path)
			}
		}
	}
	add(fileRecording, func(w io.Writer) error { return boottrace.Write(w, rec) })
	if p := profile.BootProfile(rec); p != nil {
		add(fileBoot, p.Write)
	}
	if p := profile.MemoryProfile(rec); p != nil {
		add(fileMemory, p.Write)
	}
	return paths, err
}

// writeFile writes a file beside its target and renames it into place.
func writeFile(path string, write func(io.Writer) error) (err error) {
	// os.CreateTemp would make a file that only its owner can read, whatever the umask says.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:10]+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
