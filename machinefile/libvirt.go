package machinefile

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
)

// domain is libvirt's domain XML (https://libvirt.org/formatdomain.html).
type domain struct {
	XMLName xml.Name `xml:"domain"`
	Type    string   `xml:"type,attr"`
	QEMU    string   `xml:"xmlns:qemu,attr"`
	Comment string   `xml:",comment"`
	Name    string   `xml:"name"`
	Memory  struct {
		Unit  string `xml:"unit,attr"`
		Value int64  `xml:",chardata"`
	} `xml:"memory"`
	VCPU int `xml:"vcpu"`
	OS   struct {
		Type struct {
			Arch    string `xml:"arch,attr"`
			Machine string `xml:"machine,attr"`
			Value   string `xml:",chardata"`
		} `xml:"type"`
		Kernel  string `xml:"kernel"`
		Cmdline string `xml:"cmdline,omitempty"`
	} `xml:"os"`
	CPU struct {
		Mode string `xml:"mode,attr"`
	} `xml:"cpu"`
	OnPoweroff string        `xml:"on_poweroff"`
	OnReboot   string        `xml:"on_reboot"`
	OnCrash    string        `xml:"on_crash"`
	Devices    devices       `xml:"devices"`
	Args       []commandLine `xml:"qemu:commandline>qemu:arg"`
}

type commandLine struct {
	Value string `xml:"value,attr"`
}

type devices struct {
	Controllers []struct {
		Type  string `xml:"type,attr"`
		Model string `xml:"model,attr"`
	} `xml:"controller"`
	Serial struct {
		Type   string `xml:"type,attr"`
		Target struct {
			Type string `xml:"type,attr"`
			Port string `xml:"port,attr"`
		} `xml:"target"`
	} `xml:"serial"`
	Balloon struct {
		Model string `xml:"model,attr"`
	} `xml:"memballoon"`
}

// Libvirt writes a domain for virsh define: QEMU's microvm with the image as its kernel, and as a disk that is given to QEMU
// directly, since libvirt has no element for virtio-mmio on x86. The path should be absolute: libvirt takes no other.
func Libvirt(m Machine) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(m.Image, "/") {
		return nil, badf("the path %q is relative, and libvirt takes absolute ones only", m.Image)
	}
	d := domain{Type: "kvm", QEMU: "http://libvirt.org/schemas/domain/qemu/1.0", VCPU: 1, OnPoweroff: "destroy", OnReboot: "destroy", OnCrash: "destroy"}
	if m.Accel == qemu.TCG {
		d.Type = "qemu"
	}
	d.Comment = " A Firstlight image: virsh create FILE and then virsh console " + m.Name + ". The guest's end destroys the domain. "
	d.Name = m.Name
	d.Memory.Unit, d.Memory.Value = "MiB", m.mebibytes()
	d.OS.Type.Arch, d.OS.Type.Machine, d.OS.Type.Value = "x86_64", "microvm", "hvm"
	d.OS.Kernel, d.OS.Cmdline = m.Image, m.CommandLine
	d.CPU.Mode = "maximum"
	d.Devices.Controllers = append(d.Devices.Controllers, struct {
		Type  string `xml:"type,attr"`
		Model string `xml:"model,attr"`
	}{"usb", "none"})
	d.Devices.Serial.Type, d.Devices.Serial.Target.Type, d.Devices.Serial.Target.Port = "pty", "isa-serial", "0"
	d.Devices.Balloon.Model = "none"
	for _, a := range []string{
		"-machine", "acpi=off,pit=off,pic=off,rtc=off,x-option-roms=off",
		"-bios", "qboot.rom",
		"-global", "virtio-mmio.force-legacy=off",
		"-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=4", abi.PortExit),
		"-blockdev", "driver=raw,node-name=root,read-only=on,file.driver=file,file.filename=" + strings.ReplaceAll(m.Image, ",", ",,"),
		"-device", "virtio-blk-device,drive=root",
	} {
		d.Args = append(d.Args, commandLine{a})
	}
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, badf("%w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
