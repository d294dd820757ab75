package machinefile

import (
	"bytes"
	"encoding/json"
)

// firecracker is the file of firecracker --config-file (Firecracker 1.x, src/vmm/src/resources.rs, VmmConfig, and
// src/firecracker/swagger/firecracker.yaml).
type firecracker struct {
	BootSource struct {
		KernelImagePath string `json:"kernel_image_path"`
		BootArgs        string `json:"boot_args"`
	} `json:"boot-source"`
	Drives        []firecrackerDrive `json:"drives"`
	MachineConfig struct {
		VCPUCount  int   `json:"vcpu_count"`
		MemSizeMiB int64 `json:"mem_size_mib"`
	} `json:"machine-config"`
}

type firecrackerDrive struct {
	DriveID      string `json:"drive_id"`
	PathOnHost   string `json:"path_on_host"`
	IsRootDevice bool   `json:"is_root_device"`
	IsReadOnly   bool   `json:"is_read_only"`
}

// Firecracker writes a file for firecracker --config-file. The image is its own kernel: an ELF file with a PVH note, which
// Firecracker takes from version 1.12 on; earlier ones enter an ELF file in 64-bit mode, and this kernel has no such entry.
func Firecracker(m Machine) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	var f firecracker
	f.BootSource.KernelImagePath = m.Image
	f.BootSource.BootArgs = m.CommandLine
	if m.CommandLine == "" {
		// Without any, Firecracker adds a dozen words for Linux. This one is the kernel's default.
		f.BootSource.BootArgs = "verbose=0"
	}
	// A root device would add root=/dev/vda to the command line; the image's parameters say where the root is.
	f.Drives = []firecrackerDrive{{DriveID: "root", PathOnHost: m.Image, IsReadOnly: true}}
	f.MachineConfig.VCPUCount = 1
	f.MachineConfig.MemSizeMiB = m.mebibytes()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, badf("%w", err)
	}
	return b.Bytes(), nil
}
