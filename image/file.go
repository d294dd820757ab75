package image

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// pending is an output file that is written beside its target and takes the target's name when it is complete.
type pending struct {
	*os.File
	target string
}

// create starts a pending file for path. If path is a symbolic link, its target will be replaced, not the link.
func create(path string) (*pending, error) {
	target := path
	st, err := os.Stat(path)
	if err == nil {
		if !st.Mode().IsRegular() {
			return nil, &fs.PathError{Op: "write", Path: path, Err: fmt.Errorf("not a regular file: %v", st.Mode().Type())}
		}
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	// os.CreateTemp would make a file that only its owner can read, whatever the umask says.
	dir, base := filepath.Split(target)
	base = base[:min(len(base), 200)] // a name of 255 bytes must leave room for the rest
	f, err := os.OpenFile(filepath.Join(dir, "."+base+"."+rand.Text()[:10]+".tmp"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, &fs.PathError{Op: "write", Path: path, Err: err.(*fs.PathError).Err}
	}
	return &pending{f, target}, nil
}

// commit gives the file its name.
func (p *pending) commit() error {
	err := p.Close()
	if err == nil {
		err = os.Rename(p.Name(), p.target)
	}
	if le := (*os.LinkError)(nil); errors.As(err, &le) {
		err = &fs.PathError{Op: "write", Path: p.target, Err: le.Err}
	}
	if err != nil {
		os.Remove(p.Name())
	}
	return err
}

// abort removes the file.
func (p *pending) abort() {
	p.Close()
	os.Remove(p.Name())
}
