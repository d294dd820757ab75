//go:build unix

package tree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ManifestOptions say how a manifest of OSv becomes a tree.
type ManifestOptions struct {
	Options
	// Var returns the value of a variable, and whether there is one; nil knows none.
	Var func(name string) (string, bool)
	// Dirs are where relative sources are looked for, in this order; none is the current directory.
	Dirs []string
}

// Manifest is what a manifest says.
type Manifest struct {
	*Tree
	// Order lists the paths that the manifest names, in its order, for a module that keeps it.
	Order []string
	// Notes tell, by line, what is left out, replaced, or otherwise not what OSv's tools would pack.
	Notes []string
}

// ErrManifest is wrapped by errors about what a manifest says.
var ErrManifest = errors.New("manifest")

// maxManifest bounds a line of a manifest in bytes.
const maxManifest = 1 << 20

// FromManifest makes a tree of a manifest of OSv: lines "GUEST: HOST", as scripts/manifest_common.py of
// github.com/cloudius-systems/osv (at 0e34e4dc) reads them.
//
//	# comment            also the line [manifest] and empty lines
//	/a: dir/a            a file; a symbolic link on the host gives the file it leads to
//	/a: !dir/a           the same, but a symbolic link stays one
//	/a: ->/b             a symbolic link to /b
//	/dir/: dir           an empty directory, if dir is one
//	/lib/**: dir/**      all that is below dir
//	/lib/&/a.so: dir/&   /lib/a.so from dir/a.so
//
// %(VAR)s in a source and ${VAR} anywhere stand for a variable's value, %% for a percent sign. What a link leads to
// absolutely is looked for below the directory that the link is in, then below its parent, and so on up. Parents are made.
//
// What OSv's tools would drop without a word is packed if it can be, and told in Notes in any case: empty directories and
// links to directories below /**, further colons, paths without a leading slash. So is what is left out: the content of a
// directory that is given without /**, sockets and devices below /**, *-stripped.so, and lines that later ones replace.
// Sources that are not there are an error that lists them. Errors wrap ErrManifest.
func FromManifest(ctx context.Context, r io.Reader, o ManifestOptions) (*Manifest, error) {
	m := &manifest{ctx: ctx, o: o, at: map[string]int{}}
	if len(m.o.Dirs) == 0 {
		m.o.Dirs = []string{"."}
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxManifest)
	for sc.Scan() {
		m.line++
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := m.read(sc.Text()); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrManifest, m.line, err)
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("%w: line %d: longer than %d bytes", ErrManifest, m.line+1, maxManifest)
		}
		return nil, err
	}
	if len(m.missing) > 0 {
		const most = 20
		list := strings.Join(m.missing[:min(len(m.missing), most)], ", ")
		if n := len(m.missing) - most; n > 0 {
			list += fmt.Sprintf(" and %d more", n)
		}
		return nil, fmt.Errorf("%w: %w: %s; looked in %s", ErrManifest, fs.ErrNotExist, list, strings.Join(m.o.Dirs, ", "))
	}
	return m.finish()
}

type manifest struct {
	ctx     context.Context
	o       ManifestOptions
	line    int
	entries []Entry
	lines   []int          // by entry, the line that it is from
	hosts   []string       // by entry, its source
	at      map[string]int // index of an entry by its path
	notes   []string
	missing []string
}

func (m *manifest) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf("line %d: ", m.line)+fmt.Sprintf(format, args...))
}

func (m *manifest) read(line string) error {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line == "[manifest]" {
		return nil
	}
	if line[0] == '[' {
		return fmt.Errorf("section %s: only [manifest] is known", line)
	}
	line, err := m.expand(line, "${", "}")
	if err != nil {
		return err
	}
	guest, host, ok := strings.Cut(line, ": ")
	guest, host = strings.TrimSpace(guest), strings.TrimSpace(host)
	if !ok || guest == "" || host == "" {
		return fmt.Errorf("want GUEST: HOST, with a colon and a space, and have %q", line)
	}
	if strings.Contains(host, ": ") {
		m.note("%s: the source is all of %q; OSv's tools would end it at the colon", guest, host)
	}
	if !strings.HasPrefix(guest, "/") {
		m.note("%s has no leading slash, so OSv's tools would leave it out; it is packed as /%[1]s", guest)
	}
	if host, err = m.expand(host, "%(", ")s"); err != nil {
		return err
	}
	prefix, below := strings.CutSuffix(guest, "/**")
	dir, all := strings.CutSuffix(host, "/**")
	if before, after, ok := strings.Cut(guest, "/&/"); ok && strings.HasSuffix(host, "/&") {
		guest, host = before+"/"+after, strings.TrimSuffix(host, "&")+after
	} else if strings.Contains(guest, "/&/") || strings.HasSuffix(host, "/&") {
		return fmt.Errorf("%s: %s: /&/ in the path and /& at the end of the source belong together", guest, host)
	}
	switch {
	case below != all:
		return fmt.Errorf("%s: %s: /** belongs at the end of both or of neither", guest, host)
	case below:
		return m.below(prefix, dir)
	}
	return m.add(guest, host, false)
}

// expand replaces variables between the marks open and close. Where those begin with a percent sign, two of them are one.
func (m *manifest) expand(s, open, close string) (string, error) {
	var b strings.Builder
	for s != "" {
		if open[0] == '%' && strings.HasPrefix(s, "%%") {
			b.WriteByte('%')
			s = s[2:]
			continue
		}
		if !strings.HasPrefix(s, open) {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		name, rest, ok := strings.Cut(s[len(open):], close)
		if !ok {
			return "", fmt.Errorf("%q: %s without %s", s, open, close)
		}
		value, ok := "", false
		if m.o.Var != nil {
			value, ok = m.o.Var(name)
		}
		if !ok {
			return "", fmt.Errorf("variable %s is not defined", name)
		}
		b.WriteString(value)
		s = rest
	}
	return b.String(), nil
}

// find returns where a source is, and notes it as missing if it is nowhere.
func (m *manifest) find(host string) (string, fs.FileInfo, error) {
	dirs := m.o.Dirs
	if filepath.IsAbs(host) {
		dirs = []string{""}
	}
	for _, dir := range dirs {
		// Not filepath.Join of the whole, which would clean away what comes before a "..".
		p := host
		if dir != "" && dir != "." {
			p = strings.TrimRight(dir, "/") + "/" + host
		}
		info, err := os.Lstat(p)
		if err == nil {
			return p, info, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
	}
	m.missing = append(m.missing, fmt.Sprintf("%s (line %d)", host, m.line))
	return "", nil, nil
}

// below adds all that is below the directory dir.
func (m *manifest) below(prefix, dir string) error {
	if dir == "" {
		dir = "/" // of the host
	}
	root, _, err := m.find(dir)
	if err != nil || root == "" {
		return err
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory, and /** packs what is below one", dir)
	}
	return m.walk(prefix, root)
}

func (m *manifest) walk(prefix, dir string) error {
	list, err := os.ReadDir(dir) // sorted, unlike what OSv's tools take
	if err != nil {
		return err
	}
	for _, d := range list {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		guest, host := prefix+"/"+d.Name(), filepath.Join(dir, d.Name())
		switch d.Type() {
		case fs.ModeDir:
			sub, err := os.ReadDir(host)
			if err != nil {
				return err
			}
			if len(sub) > 0 {
				err = m.walk(guest, host)
			} else {
				m.note("%s: the empty directory is packed; OSv's tools would leave it out", guest)
				err = m.add(guest, host, true)
			}
			if err != nil {
				return err
			}
			continue
		case fs.ModeSymlink:
			if info, err := os.Stat(host); err == nil && info.IsDir() {
				target, err := os.Readlink(host)
				if err != nil {
					return err
				}
				m.note("%s: the link to the directory %s is packed as a link; OSv's tools would leave it out", guest, target)
				host = "!" + host
			}
		case 0:
		default:
			m.note("%s: left out: it is a %s", guest, strings.Trim(d.Type().String(), "-"))
			continue
		}
		if err := m.add(guest, host, true); err != nil {
			return err
		}
	}
	return nil
}

// add adds what is at host, which for found is a path that was looked up, as guest.
func (m *manifest) add(guest, host string, found bool) error {
	name, err := guestPath(guest)
	if err != nil {
		return err
	}
	e := Entry{Path: name, Mode: fs.ModeSymlink | 0o777, UID: m.o.UID, GID: m.o.GID, ModTime: time.Unix(0, 0)}
	if target, ok := strings.CutPrefix(host, "->"); ok {
		if e.Link = strings.TrimSpace(target); e.Link == "" || len(e.Link) > MaxLink {
			return fmt.Errorf("%s: a link's target has 1 to %d bytes", guest, MaxLink)
		}
		return m.put(e, host)
	}
	p, keep := strings.CutPrefix(host, "!")
	var info fs.FileInfo
	if found {
		info, err = os.Lstat(p)
	} else {
		p, info, err = m.find(p)
	}
	if err != nil || info == nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink && !keep {
		target, ok, err := m.resolve(p, 0)
		if err != nil || target == "" {
			return err
		}
		if ok {
			p = target
		} else {
			m.note("%s: what the link leads to is not on the host: it is packed as a link", guest)
		}
	}
	if strings.HasSuffix(p, "-stripped.so") {
		m.note("%s: left out, as by OSv's tools, which write such files themselves: %s", guest, p)
		return nil
	}
	if info, err = os.Lstat(p); err != nil {
		return err
	}
	e.ModTime = m.o.time(info.ModTime())
	e.UID, e.GID = m.o.owner(info)
	switch info.Mode().Type() {
	case 0:
		e.Mode, e.Size = info.Mode()&modeBits, info.Size()
		// The source must be the file itself: a directory on its way may be a link.
		if p, err = filepath.EvalSymlinks(p); err != nil {
			return err
		}
		e.Source = func() (io.ReadCloser, error) { return openFile(p, identify(info)) }
	case fs.ModeDir:
		e.Mode = info.Mode() & modeBits
		if list, err := os.ReadDir(p); err != nil {
			return err
		} else if len(list) > 0 {
			m.note("%s: only the directory is packed; the %d entries of %s are left out: end both sides in /** to pack them", guest, len(list), host)
		}
	case fs.ModeSymlink:
		if e.Link, err = os.Readlink(p); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: %s is neither a file, nor a directory, nor a link: %w", guest, host, ErrUnsupported)
	}
	return m.put(e, host)
}

// resolve follows a symbolic link of the host: a relative one from where it is, an absolute one from the innermost directory
// above it below which there is what it names. ok is false for an absolute one that leads nowhere; a relative one that does is
// missing, and the result is empty.
func (m *manifest) resolve(p string, depth int) (target string, ok bool, err error) {
	if depth > maxLinks {
		return "", false, fmt.Errorf("%s: %w", p, errLinks)
	}
	link, err := os.Readlink(p)
	if err != nil {
		return "", false, err
	}
	next := filepath.Dir(p) + "/" + link
	if filepath.IsAbs(link) {
		base, err := filepath.Abs(filepath.Dir(p))
		if err != nil {
			return "", false, err
		}
		for {
			next = strings.TrimRight(base, "/") + link
			if _, err := os.Lstat(next); err == nil {
				break
			}
			if base == "/" {
				return p, false, nil
			}
			base = filepath.Dir(base)
		}
	}
	info, err := os.Lstat(next)
	if errors.Is(err, fs.ErrNotExist) {
		m.missing = append(m.missing, fmt.Sprintf("%s, to which %s leads (line %d)", next, p, m.line))
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return m.resolve(next, depth+1)
	}
	return next, true, nil
}

// guestPath turns a path of a manifest into one of a tree.
func guestPath(guest string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(guest, "/") {
		switch part {
		case "", ".":
			continue
		}
		if err := checkName(part); err != nil {
			return "", fmt.Errorf("%s: %w", guest, err)
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// put adds e in place of an earlier entry of that name.
func (m *manifest) put(e Entry, host string) error {
	i, ok := m.at[e.Path]
	if !ok {
		m.at[e.Path] = len(m.entries)
		m.entries, m.lines, m.hosts = append(m.entries, e), append(m.lines, m.line), append(m.hosts, host)
		return nil
	}
	if m.entries[i].Mode.IsDir() != e.Mode.IsDir() {
		return fmt.Errorf("/%s is a directory here or in line %d, and not in the other", e.Path, m.lines[i])
	}
	if m.hosts[i] != host {
		m.note("/%s from %s replaces that of line %d, from %s", e.Path, host, m.lines[i], m.hosts[i])
	}
	m.entries[i], m.lines[i], m.hosts[i] = e, m.line, host
	return nil
}

// finish makes parents and the tree.
func (m *manifest) finish() (*Manifest, error) {
	out := &Manifest{Notes: m.notes}
	for _, e := range m.entries {
		out.Order = append(out.Order, e.Path)
	}
	entries := slices.Clone(m.entries)
	for i, e := range m.entries {
		for dir := e.Path; dir != "."; {
			dir = path.Dir(dir)
			if j, ok := m.at[dir]; ok {
				if j < len(m.entries) && !m.entries[j].Mode.IsDir() {
					return nil, fmt.Errorf("%w: line %d: /%s lies below /%s, which line %d makes no directory", ErrManifest, m.lines[i], e.Path, dir, m.lines[j])
				}
				continue
			}
			m.at[dir] = len(entries)
			entries = append(entries, Entry{Path: dir, Mode: fs.ModeDir | 0o755, UID: m.o.UID, GID: m.o.GID, ModTime: time.Unix(0, 0)})
		}
	}
	if _, ok := m.at["."]; !ok {
		entries = append(entries, Entry{Path: ".", Mode: fs.ModeDir | 0o755, UID: m.o.UID, GID: m.o.GID, ModTime: time.Unix(0, 0)})
	}
	var err error
	out.Tree, err = New(entries...)
	return out, err
}
