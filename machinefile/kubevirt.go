package machinefile

import (
	"bytes"
	"encoding/json"
	"path"
	"strings"
	"text/template"
)

// vmi is a VirtualMachineInstance of KubeVirt's API kubevirt.io/v1. A string of JSON is a string of YAML.
var vmi = template.Must(template.New("vmi").Funcs(template.FuncMap{"quote": quoteJSON}).Parse(
	`# A Firstlight image under KubeVirt: kubectl apply -f FILE, and then virtctl console {{.Name}}.
#
# The container image has the image twice, as the kernel to start and as the disk. A Containerfile for it:
#
#   FROM scratch
#   COPY --chown=107:107 {{.File}} /boot/kernel
#   COPY --chown=107:107 {{.File}} /disk/root.img
#
# KubeVirt's machines are q35. The kernel starts there, but this version's has no driver for disks on PCI.
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: {{quote .Name}}
spec:
  terminationGracePeriodSeconds: 0
  domain:
    machine:
      type: q35
    cpu:
      cores: 1
    memory:
      guest: {{.MiB}}Mi
    firmware:
      kernelBoot:
{{- if .CommandLine}}
        kernelArgs: {{quote .CommandLine}}
{{- end}}
        container:
          image: {{quote .Container}}
          imagePullPolicy: IfNotPresent
          kernelPath: /boot/kernel
    devices:
      autoattachGraphicsDevice: false
      autoattachMemBalloon: false
      autoattachPodInterface: false
      disks:
        - name: root
          disk:
            bus: virtio
            readonly: true
  volumes:
    - name: root
      containerDisk:
        image: {{quote .Container}}
        path: /disk/root.img
        imagePullPolicy: IfNotPresent
`))

func quoteJSON(s string) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// KubeVirt writes a VirtualMachineInstance. Of the image only its name is in the file: its bytes come in a container image.
func KubeVirt(m Machine) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	// What COPY takes as more than a name is a pattern or a second word.
	file := path.Base(m.Image)
	if strings.ContainsAny(file, " \t*?[\\") {
		file = "app.img"
	}
	var b bytes.Buffer
	err := vmi.Execute(&b, struct {
		Machine
		File string
		MiB  int64
	}{m, file, m.mebibytes()})
	if err != nil {
		return nil, badf("%w", err)
	}
	return b.Bytes(), nil
}
