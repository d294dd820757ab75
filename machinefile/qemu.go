package machinefile

import (
	"fmt"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
)

// QEMUArgs are the options that QEMU takes on its command line only. The file's name comes after them.
var QEMUArgs = []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-cpu", "max", "-readconfig"}

// maxQEMULine is how long a line can be: QEMU reads them into 1024 bytes, with newline and NUL (util/qemu-config.c,
// qemu_config_foreach).
const maxQEMULine = 1022

// section is a group of options in QEMU's form.
type section struct {
	name    string // as `device "disk0"`
	options []option
}

type option struct{ key, value string }

// qemuSections is the machine that bootprof qemu boots on by default: microvm with qboot and only what the kernel needs.
func (m *Machine) qemuSections() []section {
	// The machine's own serial port is off, so that the file's is the first even without -nodefaults.
	machine := section{"machine", []option{
		{"type", "microvm"}, {"acpi", "off"}, {"pit", "off"}, {"pic", "off"}, {"rtc", "off"}, {"isa-serial", "off"}, {"x-option-roms", "off"},
		{"firmware", "qboot.rom"}, {"kernel", m.Image},
	}}
	if m.CommandLine != "" {
		machine.options = append(machine.options, option{"append", m.CommandLine})
	}
	all := []section{machine}
	// QEMU takes the first accelerator that starts.
	for _, a := range []qemu.Accel{qemu.KVM, qemu.TCG} {
		if m.Accel == a || m.Accel == qemu.Auto {
			all = append(all, section{"accel", []option{{"accel", string(a)}}})
		}
	}
	return append(all,
		section{"memory", []option{{"size", fmt.Sprintf("%dM", m.mebibytes())}}},
		section{"sandbox", []option{{"enable", "on"}, {"obsolete", "deny"}, {"elevateprivileges", "deny"}, {"spawn", "deny"}, {"resourcecontrol", "deny"}}},
		section{`chardev "console"`, []option{{"backend", "stdio"}}},
		section{"device", []option{{"driver", "isa-serial"}, {"chardev", "console"}}},
		section{"device", []option{{"driver", "isa-debug-exit"}, {"iobase", fmt.Sprintf("%#x", abi.PortExit)}, {"iosize", "4"}}},
		section{"global", []option{{"driver", "virtio-mmio"}, {"property", "force-legacy"}, {"value", "off"}}},
		section{`drive "root"`, []option{{"if", "none"}, {"format", "raw"}, {"read-only", "on"}, {"file.driver", "file"}, {"file.filename", m.Image}}},
		section{"device", []option{{"driver", "virtio-blk-device"}, {"drive", "root"}}},
	)
}

// QEMU writes a file for QEMU's -readconfig (QEMU, docs/config). The format has no escapes: a double quote cannot be in a
// value, and a line is at most 1022 bytes long.
func QEMU(m Machine) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# A Firstlight image under QEMU 6.1 or later. What QEMU takes on its command line only:
#
#   qemu-system-x86_64 %s FILE
#
# QEMU's exit status is twice the app's exit code plus one.
`, strings.Join(QEMUArgs, " "))
	for _, s := range m.qemuSections() {
		fmt.Fprintf(&b, "\n[%s]\n", s.name)
		for _, o := range s.options {
			if strings.Contains(o.value, `"`) {
				return nil, badf("%s: a double quote in %s, which QEMU's form cannot have", o.key, o.value)
			}
			line := fmt.Sprintf("  %s = \"%s\"", o.key, o.value)
			if len(line) > maxQEMULine {
				return nil, badf("%s: %d bytes are too many for QEMU's form", o.key, len(o.value))
			}
			b.WriteString(line + "\n")
		}
	}
	return []byte(b.String()), nil
}
