// Package machinefile writes the configuration files that other programs start a virtual machine by: QEMU's -readconfig
// form, Firecracker's JSON, libvirt's domain XML and KubeVirt's VirtualMachineInstance. docs/machine-files.md says what goes
// into each, and what our kernel needs of the machine.
//
// Same Machine, same bytes. A name that a format cannot hold is an error, never changed.
package machinefile

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/qemu"
)

// ErrInput is wrapped by every error of this package: the Machine cannot be written in this format.
var ErrInput = errors.New("cannot be written to this file")

// Machine is what boots.
type Machine struct {
	Name        string // of the machine; what a format does not allow in names is replaced
	Image       string // path of the image, as the file is to have it
	MemoryBytes int64  // a multiple of 1 MiB; default qemu.DefaultMemory
	CommandLine string // added to the image's own parameters
	// Accel is for QEMU and libvirt. qemu.Auto, the default, lets QEMU take KVM where it can be opened, or else TCG; libvirt
	// has no such choice and gets KVM.
	Accel qemu.Accel
	// Container is for KubeVirt: the container image that holds kernel and disk. Default: Name:latest.
	Container string
}

// Format writes one kind of file.
type Format struct {
	Name  string // as bootprof config --for takes it
	Write func(Machine) ([]byte, error)
	// Lacks says what this version's kernel still lacks for a boot there; "" if it boots.
	Lacks string
}

// Formats lists all formats.
func Formats() []Format {
	return []Format{
		{"qemu", QEMU, ""},
		{"firecracker", Firecracker, "Firecracker 1.12 or later starts such kernels, and this one looks for its disk where Firecracker has it, but no test has booted it there"},
		{"libvirt", Libvirt, ""},
		{"kubevirt", KubeVirt, "KubeVirt's machines are q35, whose disks are on PCI, for which this version's kernel has no driver"},
	}
}

func badf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInput}, args...)...)
}

// check fills in defaults and refuses what no format can hold: text formats have no room for control characters and bytes
// that are no UTF-8.
func (m *Machine) check() error {
	if m.MemoryBytes == 0 {
		m.MemoryBytes = qemu.DefaultMemory
	}
	if m.Accel == "" {
		m.Accel = qemu.Auto
	}
	switch {
	case m.Image == "":
		return badf("the image has no path")
	case m.MemoryBytes < 0 || m.MemoryBytes > qemu.MaxMemory || m.MemoryBytes%(1<<20) != 0:
		return badf("memory of %d bytes: want whole MiB, at most 1 TiB", m.MemoryBytes)
	case m.Accel != qemu.Auto && m.Accel != qemu.KVM && m.Accel != qemu.TCG:
		return badf("accelerator %q: want auto, kvm or tcg", m.Accel)
	}
	m.Name = plainName(m.Name)
	if m.Container == "" {
		m.Container = m.Name + ":latest"
	}
	for what, text := range map[string]string{"path": m.Image, "command line": m.CommandLine, "container image": m.Container} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == 0xfffe || r == 0xffff }) {
			return badf("the %s %q has a control character, or is not UTF-8", what, text)
		}
	}
	return nil
}

func (m *Machine) mebibytes() int64 { return m.MemoryBytes >> 20 }

// plainName makes a name that all formats take: a DNS label (RFC 1123, section 2.1).
func plainName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	name = strings.TrimRight(name[:min(len(name), 63)], "-")
	if name == "" {
		return "app"
	}
	return name
}
