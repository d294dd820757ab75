package bootprof

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/link"
)

func kernelCommand() *cobra.Command {
	var format, out string
	cmd := &cobra.Command{
		Use:   "kernel IMG -o FILE [flags]",
		Short: "Write an image's kernel to a file, as an ELF or a bzImage",
		Long: `Write the kernel of an image to a file of its own, for a virtual machine monitor that does not take the image itself as its
kernel. The app's arguments and environment are in it; its file system stays in the image, which is the disk.

bzimage is what loaders of Linux take (hyperkit; QEMU too); elf has a PVH note and is what QEMU, Firecracker and Cloud
Hypervisor take. An image is also an ELF file: qemu-system-x86_64 -kernel app.img boots it with nothing extracted.`,
		Example: `  bootprof kernel app.img -o app.bzImage
  bootprof qemu --kernel app.bzImage --disk app.img
  bootprof kernel app.img --format elf -o app.elf`,
		Args: oneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("want -o FILE: where to write the kernel; - is standard output")
			}
			if format != "elf" && format != "bzimage" {
				return usagef("--format %q: want bzimage or elf", format)
			}
			_, kernel, err := imageKernel(args[0])
			if err != nil {
				return err
			}
			if format == "bzimage" {
				if kernel, err = link.BzImage(kernel); err != nil {
					return usagef("%s: %w; build it again with this version's imgbuild", args[0], err)
				}
			}
			return writeDerived(cmd, args[0], out, kernel)
		},
	}
	cmd.Flags().StringVar(&format, "format", "bzimage", "bzimage or elf")
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write; - is standard output")
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"bzimage", "elf"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// oneImage wants one image as the only argument.
func oneImage(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 || args[0] == "":
		return usagef("want an image; see %s --help", cmd.CommandPath())
	case len(args) > 1:
		return usagef("%q is one argument too many: want one image; see %s --help", args[1], cmd.CommandPath())
	}
	return nil
}

// imageKernel reads the kernel of an image: an ELF file with the image's parameters in it.
func imageKernel(path string) (*target, []byte, error) {
	t, err := openImage(path)
	if err != nil {
		return nil, nil, err
	}
	img, err := image.Open(path)
	if err != nil {
		return nil, nil, usagef("%w", err)
	}
	defer img.Close()
	r, ok := img.Partition(image.PartKernel)
	if !ok || r.Size() > image.MaxKernel {
		return nil, nil, usagef("%s has no kernel that could be taken out; imgbuild verify says more", path)
	}
	kernel, err := io.ReadAll(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: kernel: %w", path, err)
	}
	if int64(len(kernel)) < r.Size() {
		return nil, nil, usagef("%s ends inside its kernel; imgbuild verify says more", path)
	}
	return t, kernel, nil
}

// writeDerived writes a file made from an image that the user named with -o. What is no regular file, as a device, is left as
// it is, and so is the image.
func writeDerived(cmd *cobra.Command, img, path string, data []byte) error {
	write := func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
	if path == "-" {
		return write(cmd.OutOrStdout())
	}
	if st, err := os.Stat(path); err == nil {
		if !st.Mode().IsRegular() {
			return usagef("cannot write %s: it is there and no regular file; - is standard output", path)
		}
		if from, err := os.Stat(img); err == nil && os.SameFile(st, from) {
			return usagef("-o %s would replace the image itself", path)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return usagef("cannot write it: %w", err)
		}
	}
	if err := writeFile(path, write); err != nil {
		return usagef("cannot write %s: %w", path, err)
	}
	return nil
}
