package read

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// Dataset is a file system or a snapshot of one.
type Dataset struct {
	Name     string // "pool/a", or "pool/a@snapshot"
	Snapshot bool
	Created  uint64            // seconds since 1970
	Used     uint64            // bytes that its blocks take
	Props    map[string]string // as they are set here; numbers in decimal

	object uint64
	bp     format.BP
}

// Words of the bonus of a DSL directory and of a DSL dataset.
const (
	dirHead, dirChildren, dirProps                        = 1, 4, 10
	setSnapshots, setCreated, setUsed, setBP, setPrevious = 4, 6, 9, 16, 1
)

func word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }

// lookup finds a number in a table of the pool's own objects; 0 is none.
func (p *Pool) lookup(object uint64, name string) (uint64, error) {
	o, err := p.mos.Object(object)
	if err != nil {
		return 0, err
	}
	v, _, err := zap.Lookup(o, name)
	n, _ := v.Uint64()
	return n, err
}

// features refuses what the pool's own list of features has and is not known, and pools that are encrypted.
func (p *Pool) features() error {
	object, err := p.lookup(1, "features_for_read")
	if err != nil || object == 0 {
		return err
	}
	o, err := p.mos.Object(object)
	if err != nil {
		return err
	}
	err = zap.Each(o, func(name string, v zap.Value) error {
		n, _ := v.Uint64()
		if n > 0 && !features[name] {
			return unsupported("the feature %s", name)
		}
		if n > 0 {
			p.Features = append(p.Features, name)
		}
		return nil
	})
	slices.Sort(p.Features)
	return err
}

const (
	// maxDatasets bounds how many datasets a pool may have, and how many of them and snapshots together.
	maxDatasets = 100_000
	// maxName is the most bytes that a dataset's name has in ZFS (ZFS_MAX_DATASET_NAME_LEN); so they are not deep in each other.
	maxName = 255
)

// Datasets lists the file systems and their snapshots, a parent before its children, by name.
func (p *Pool) Datasets() ([]Dataset, error) {
	root, err := p.lookup(1, "root_dataset")
	if err != nil {
		return nil, err
	}
	var list []Dataset
	seen := map[uint64]bool{}
	if err := p.directory(root, p.Name, seen, &list); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Dataset) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (p *Pool) directory(object uint64, name string, seen map[uint64]bool, list *[]Dataset) error {
	if seen[object] || len(seen) > maxDatasets {
		return damaged("the directory of %s is its own parent, or one of too many", name)
	}
	if len(name) > maxName {
		return damaged("the dataset %.80s… has a name of %d bytes", name, len(name))
	}
	seen[object] = true
	dir, err := p.mos.Object(object, format.TypeDSLDir)
	if err != nil {
		return err
	}
	b := dir.Bonus()
	if len(b) < 256 {
		return damaged("the directory of %s has %d bytes", name, len(b))
	}
	if head := word(b, dirHead); head != 0 {
		props, err := p.props(word(b, dirProps))
		if err != nil {
			return fmt.Errorf("properties of %s: %w", name, err)
		}
		if err := p.dataset(head, name, props, list); err != nil {
			return fmt.Errorf("dataset %s: %w", name, err)
		}
	}
	children := word(b, dirChildren)
	if children == 0 {
		return nil
	}
	o, err := p.mos.Object(children, format.TypeDSLDirChildMap)
	if err != nil {
		return err
	}
	return zap.Each(o, func(child string, v zap.Value) error {
		n, ok := v.Uint64()
		if !ok {
			return damaged("%s/%s has no number", name, child)
		}
		if strings.HasPrefix(child, "$") || strings.HasPrefix(child, "%") { // ZFS's own
			return nil
		}
		return p.directory(n, name+"/"+child, seen, list)
	})
}

// props reads the properties that are set in a table.
func (p *Pool) props(object uint64) (map[string]string, error) {
	props := map[string]string{}
	if object == 0 {
		return props, nil
	}
	o, err := p.mos.Object(object, format.TypeDSLProps)
	if err != nil {
		return nil, err
	}
	return props, zap.Each(o, func(name string, v zap.Value) error {
		if n, ok := v.Uint64(); ok {
			props[name] = fmt.Sprint(n)
		} else if s, ok := v.Text(); ok {
			props[name] = s
		}
		return nil
	})
}

// dataset adds a dataset and its snapshots to the list, if it is a file system.
func (p *Pool) dataset(object uint64, name string, props map[string]string, list *[]Dataset) error {
	d, snapshots, err := p.open(object, name)
	if err != nil {
		return err
	}
	d.Props = props
	if set, err := p.objset(&d.bp); err != nil {
		return err
	} else if set.Kind != format.ObjsetZFS { // a volume
		return nil
	}
	*list = append(*list, d)
	if snapshots == 0 {
		return nil
	}
	o, err := p.mos.Object(snapshots, format.TypeDSLDatasetSnapMap)
	if err != nil {
		return err
	}
	return zap.Each(o, func(snap string, v zap.Value) error {
		n, ok := v.Uint64()
		if !ok {
			return damaged("snapshot %s has no number", snap)
		}
		if len(*list) > maxDatasets || len(name)+1+len(snap) > maxName {
			return damaged("snapshot %.80s… has a name of %d bytes, or is one of too many", snap, len(name)+1+len(snap))
		}
		s, _, err := p.open(n, name+"@"+snap)
		s.Snapshot = true
		*list = append(*list, s)
		return err
	})
}

func (p *Pool) open(object uint64, name string) (d Dataset, snapshots uint64, err error) {
	o, err := p.mos.Object(object, format.TypeDSLDataset)
	if err != nil {
		return d, 0, err
	}
	b := o.Bonus()
	if len(b) < 320 {
		return d, 0, damaged("dataset %s has %d bytes", name, len(b))
	}
	return Dataset{Name: name, object: object, Created: word(b, setCreated), Used: word(b, setUsed), bp: format.BP(b[8*setBP:])},
		word(b, setSnapshots), nil
}

// Bootfs returns the name of the dataset that the pool says to boot from, "" when it says none.
func (p *Pool) Bootfs() (string, error) {
	object, err := p.lookup(1, "pool_props")
	if err != nil || object == 0 {
		return "", err
	}
	set, err := p.lookup(object, "bootfs")
	if err != nil || set == 0 {
		return "", err
	}
	list, err := p.Datasets()
	for _, d := range list {
		if d.object == set {
			return d.Name, nil
		}
	}
	return "", err
}
