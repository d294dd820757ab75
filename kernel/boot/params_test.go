package boot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	area := "arg=/app\x00arg=one\x00env=A=1\x00env=B=2\x00cwd=/tmp\x00root=rofs:8192:4096\x00hostname=h\x00\x00junk"
	for _, c := range []struct {
		cmdline string
		want    Params
	}{
		{"", Params{Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}}},
		{" virtio_mmio.device=512@0xfeb00e00:12", Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, Disks: []MMIO{{0xfeb00e00, 12}},
		}},
		{"virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=0x1000@0xd0001000:6:1", Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, Disks: []MMIO{{0xd0000000, 5}, {0xd0001000, 6}},
		}},
		{"virtio_mmio.device=4X@0xd0000000:5 virtio_mmio.device=@0xd0000000:5 virtio_mmio.device=4K@0xd0000000:5x", Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, Unknown: []string{
				"virtio_mmio.device=4X@0xd0000000:5", "virtio_mmio.device=@0xd0000000:5", "virtio_mmio.device=4K@0xd0000000:5x",
			},
		}},
		{`arg=two\ words arg=back\\slash env=A=3 env=C=4`, Params{
			Args: []string{"/app", "two words", `back\slash`}, Env: []string{"A=3", "B=2", "C=4"},
		}},
		{`init=/bin/other arg= verbose=1`, Params{
			Args: []string{"/bin/other", ""}, Env: []string{"A=1", "B=2"}, Verbose: true,
		}},
		{`cpus=2 cpus=x cpus=0 cpus=65537`, Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, CPUs: 2, Unknown: []string{"cpus=x", "cpus=0", "cpus=65537"},
		}},
		{`root=initrd`, Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, RootType: "initrd", RootFromVMM: true,
		}},
		{`root=ramfs:0x1000:5`, Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"}, RootType: "ramfs", RootOff: 4096, RootLen: 5, RootFromVMM: true,
		}},
		{`what ever=1 root=rofs:1 virtio_mmio.device=512@zz:1 init\`, Params{
			Args: []string{"/app", "one"}, Env: []string{"A=1", "B=2"},
			Unknown: []string{"what", "ever=1", "root=rofs:1", "virtio_mmio.device=512@zz:1", `init\`},
		}},
	} {
		c.want.Cwd, c.want.Hostname = "/tmp", "h"
		if !c.want.RootFromVMM {
			c.want.RootType, c.want.RootOff, c.want.RootLen = "rofs", 8192, 4096
		}
		got := Parse([]byte(area), []byte(c.cmdline))
		if d := cmp.Diff(&c.want, got); d != "" {
			t.Errorf("%q: (-want +got)\n%s", c.cmdline, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("arg=/app\x00root=rofs:8192:4096\x00\x00"), []byte(`arg=a\ b virtio_mmio.device=512@0xfeb00e00:12`))
	f.Fuzz(func(t *testing.T, area, cmdline []byte) {
		p := Parse(area, cmdline)
		if p.RootOff < 0 || p.RootLen < 0 {
			t.Errorf("root at %d, length %d", p.RootOff, p.RootLen)
		}
	})
}
