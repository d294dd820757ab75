// Command kernelbuild builds the kernel that make embeds in imgbuild.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
)

func main() {
	out := flag.String("o", "", "write the kernel to `FILE`")
	tags := flag.String("tags", "", "build tags, separated by commas: the kernel's modules")
	version := flag.String("version", "", "the kernel's `VERSION`, for its build note")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var list []string
	if *tags != "" {
		list = strings.Split(*tags, ",")
	}
	b, err := kernelbuild.Build(ctx, "", *version, list)
	if err == nil {
		err = kernelbuild.WriteFile(*out, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernelbuild:", err)
		os.Exit(1)
	}
}
