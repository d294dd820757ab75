package zfsmod

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// Dataset is a file system of a pool.
type Dataset struct {
	// Name is the whole name, which starts with the pool's: "osv/zfs".
	Name string
	// Path is the folder of the tree whose content the file system holds, which the others then lack; empty is none, but for the
	// pool's own file system, which has all that no other has.
	Path string
	// Properties are as zfs set takes them: mountpoint, canmount, compression, atime and so on. Those with a colon are the user's.
	Properties map[string]string
}

// words are the values of properties that are words, as numbers (zfs_prop.c, zio_compress.h, zio_checksum.h).
var properties = func() map[string]map[string]uint64 {
	onOff := map[string]uint64{"off": 0, "on": 1}
	codecs := map[string]uint64{"on": format.CompressOn, "off": format.CompressOff, "lzjb": format.CompressLZJB, "lz4": format.CompressLZ4,
		"zle": format.CompressZLE, "gzip": format.CompressGzip1 + 5}
	for i := range 9 {
		codecs["gzip-"+strconv.Itoa(i+1)] = uint64(format.CompressGzip1 + i)
	}
	caches := map[string]uint64{"none": 0, "metadata": 1, "all": 2}
	return map[string]map[string]uint64{
		"canmount": {"off": 0, "on": 1, "noauto": 2}, "compression": codecs,
		"checksum": {"on": format.ChecksumOn, "off": format.ChecksumOff, "fletcher2": format.ChecksumFletcher2,
			"fletcher4": format.ChecksumFletcher4, "sha256": format.ChecksumSHA256},
		"atime": onOff, "relatime": onOff, "readonly": onOff, "exec": onOff, "setuid": onOff, "devices": onOff,
		"snapdir": {"hidden": 0, "visible": 1}, "sync": {"standard": 0, "always": 1, "disabled": 2},
		"primarycache": caches, "secondarycache": caches, "logbias": {"latency": 0, "throughput": 1},
		"xattr": {"off": 0, "on": 1, "dir": 1, "sa": 2},
	}
}()

// PropertyText spells a property's value as zfs get does. A value is stored as a number, or as the text that it is returned as.
func PropertyText(name, value string) string {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return value
	}
	text := ""
	for word, number := range properties[name] {
		// gzip and gzip-6, on and dir are the same: zfs get says the shorter. Of two as long it is the first, whatever a map's order.
		if number == n && (text == "" || len(word) < len(text) || len(word) == len(text) && word < text) {
			text = word
		}
	}
	return cmp.Or(text, value)
}

// maxProperty bounds a property's text, in bytes: what every ZFS takes (ZFS_MAXPROPLEN of Solaris).
const maxProperty = 1023

// encode makes the table of a dataset's properties.
func encode(props map[string]string) (list []zap.Entry, err error) {
	for _, name := range slices.Sorted(maps.Keys(props)) {
		v := props[name]
		if len(name) > 255 || len(v) > maxProperty {
			return nil, fmt.Errorf("%w: property %.80s has a name of %d bytes and a value of %d; the most are 255 and %d", fsmod.ErrUnsupported,
				name, len(name), len(v), maxProperty)
		}
		words, ok := properties[name]
		switch {
		case ok:
			n, ok := words[v]
			if !ok {
				return nil, fmt.Errorf("%w: property %s cannot be %q; it is one of %s", fsmod.ErrUnsupported, name, v,
					strings.Join(slices.Sorted(maps.Keys(words)), ", "))
			}
			list = append(list, zap.Number(name, n))
		case name == "mountpoint":
			if v != "none" && v != "legacy" && !path.IsAbs(v) {
				return nil, fmt.Errorf("%w: property mountpoint is %q; it is none, legacy or a path that begins with /", fsmod.ErrUnsupported, v)
			}
			list = append(list, zap.Text(name, v))
		case name == "copies" || name == "recordsize":
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || name == "copies" && (n < 1 || n > 3) || name == "recordsize" && (n < 512 || n > recordSize || n&(n-1) != 0) {
				return nil, fmt.Errorf("%w: property %s cannot be %q: copies are 1 to 3, a recordsize is a power of two from 512 to %d",
					fsmod.ErrUnsupported, name, v, recordSize)
			}
			list = append(list, zap.Number(name, n))
		case strings.Contains(name, ":"):
			list = append(list, zap.Text(name, v))
		default:
			return nil, fmt.Errorf("%w: property %s is not known; there are copies, mountpoint, recordsize, %s, and names with a colon",
				fsmod.ErrUnsupported, name, strings.Join(slices.Sorted(maps.Keys(properties)), ", "))
		}
	}
	return list, nil
}

// validName tells whether ZFS takes a dataset's name (zfs_namecheck.c).
func validName(name string) bool {
	if len(name) > 200 {
		return false
	}
	for i, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." || i == 0 && (part[0] < 'A' || part[0] > 'z' || part[0] > 'Z' && part[0] < 'a') {
			return false
		}
		for _, c := range []byte(part) {
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.: ", c) >= 0) {
				return false
			}
		}
	}
	return true
}

// datasets makes the file systems of a pool, the pool's own first, each with its part of t.
func (c *Config) datasets(t *tree.Tree) (root *dataset, all []*dataset, err error) {
	list := c.Datasets
	if !slices.ContainsFunc(list, func(d Dataset) bool { return d.Name == c.Pool }) {
		list = append([]Dataset{{Name: c.Pool}}, list...)
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Dataset) int { return tree.Compare(a.Name, b.Name) })
	byName := map[string]*dataset{}
	paths := map[string]*dataset{}
	for _, d := range list {
		if !validName(d.Name) {
			return nil, nil, fmt.Errorf("%w: %q is no name of a dataset: parts of letters, digits and -_.: with slashes between, the first a letter", fsmod.ErrUnsupported, d.Name)
		}
		if byName[d.Name] != nil {
			return nil, nil, fmt.Errorf("%w: there are two datasets %s", fsmod.ErrUnsupported, d.Name)
		}
		x := &dataset{name: d.Name}
		if x.props, err = encode(d.Properties); err != nil {
			return nil, nil, fmt.Errorf("dataset %s: %w", d.Name, err)
		}
		byName[d.Name] = x
		all = append(all, x)
		if d.Name == c.Pool {
			root = x
		} else if up := byName[path.Dir(d.Name)]; up != nil {
			up.children = append(up.children, x)
		} else {
			return nil, nil, fmt.Errorf("%w: there is no dataset %s for %s to be in; the pool is %s", fsmod.ErrUnsupported, path.Dir(d.Name), d.Name, c.Pool)
		}
		if d.Path == "" {
			continue
		}
		p := strings.Trim(path.Clean("/"+d.Path), "/")
		if p == "" {
			p = "."
		}
		e := t.Lookup(p)
		if e == nil || !e.Mode.IsDir() {
			return nil, nil, fmt.Errorf("%w: dataset %s holds the folder %q, which is not there", fsmod.ErrUnsupported, d.Name, d.Path)
		}
		if paths[p] != nil {
			return nil, nil, fmt.Errorf("%w: datasets %s and %s hold the same folder", fsmod.ErrUnsupported, paths[p].name, d.Name)
		}
		paths[p] = x
	}
	if paths["."] == nil {
		paths["."] = root
	}
	return root, all, split(t, paths, all)
}

// split deals out the entries of t: each goes to the dataset of the nearest folder above it. The folder itself stays in the one
// above, too, empty, for what mounts the other there.
func split(t *tree.Tree, paths map[string]*dataset, all []*dataset) error {
	parts := map[*dataset][]tree.Entry{}
	owner := make([]*dataset, len(t.Entries))
	first := map[string]int{} // of files with several names
	moved := map[string]string{}
	for i := range t.Entries {
		e := t.Entries[i]
		at, d := ".", paths["."]
		for p := e.Path; p != "."; p = path.Dir(p) {
			if x := paths[p]; x != nil {
				at, d = p, x
				break
			}
		}
		if at == e.Path && at != "." {
			// The folder, in the dataset above.
			up := paths["."]
			above := "."
			for p := path.Dir(e.Path); p != "."; p = path.Dir(p) {
				if x := paths[p]; x != nil {
					above, up = p, x
					break
				}
			}
			empty := e
			empty.Path = below(above, e.Path)
			parts[up] = append(parts[up], empty)
		}
		owner[i] = d
		if e.HardLink != "" {
			k := first[e.HardLink]
			if owner[k] == d {
				e.HardLink = below(at, e.HardLink)
			} else if to, ok := moved[d.name+"\x00"+e.HardLink]; ok {
				e.HardLink = to
			} else { // the first name of the file in this dataset
				moved[d.name+"\x00"+e.HardLink] = below(at, e.Path)
				e.HardLink, e.Source = "", t.Entries[k].Source
			}
		} else if !e.Mode.IsDir() {
			first[e.Path] = i
		}
		e.Path = below(at, e.Path)
		parts[d] = append(parts[d], e)
	}
	for _, d := range all {
		list := parts[d]
		if len(list) == 0 || list[0].Path != "." {
			list = append([]tree.Entry{{Path: ".", Mode: t.Entries[0].Mode, ModTime: t.Entries[0].ModTime}}, list...)
		}
		var err error
		if d.tree, err = tree.New(list...); err != nil {
			return err
		}
	}
	return nil
}

// below is the name of p in the folder dir.
func below(dir, p string) string {
	switch {
	case p == dir:
		return "."
	case dir == ".":
		return p
	}
	return p[len(dir)+1:]
}

// inherit sets how the content of d and of those below it is stored: as their properties say, else as that of the dataset above.
func (d *dataset) inherit(from contentProps, k compat) error {
	for _, e := range d.props {
		if e.IntLen != 8 {
			continue
		}
		v := int(e.Ints[0])
		switch e.Name {
		case "compression":
			if v == format.CompressOn {
				if v = format.CompressLZJB; k.lz4 {
					v = format.CompressLZ4
				}
			}
			if v == format.CompressLZ4 && !k.lz4 {
				return fmt.Errorf("%w: dataset %s is to be compressed by lz4, which this pool's readers do not know", fsmod.ErrUnsupported, d.name)
			}
			from.codec = v
		case "checksum":
			if v == format.ChecksumOn {
				v = format.ChecksumFletcher4
			}
			from.checksum = v
		case "recordsize":
			from.record = v
		case "copies":
			from.copies = v
		}
	}
	d.content = from
	for _, c := range d.children {
		if err := c.inherit(from, k); err != nil {
			return err
		}
	}
	return nil
}
