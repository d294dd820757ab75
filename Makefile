# The go command and sgdisk are often in folders that a user's PATH lacks.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

GO ?= go
CC ?= cc
PREFIX ?= /usr/local
FUZZTIME ?= 10s
# Further flags of go test, as TESTFLAGS='-v -run NAME'.
TESTFLAGS ?=

# The kernel that is built into imgbuild. Without this file imgbuild builds one on first use.
KERNEL := internal/kernelbuild/embed/kernel.elf

COMPLETIONS := bash-completion/completions zsh/site-functions fish/vendor_completions.d

EXAMPLES := out/examples/hello-c/hello-c out/examples/hello-go/hello-go out/examples/hello-go/imgbuild.yaml

.PHONY: build
build: kernel ## build bin/imgbuild and bin/bootprof (default)
	$(GO) build -trimpath -buildvcs=false -o bin/ ./cmd/imgbuild ./cmd/bootprof

.PHONY: kernel
kernel: ## build the kernel that goes into imgbuild
	$(GO) run ./internal/kernelbuild/cmd/kernelbuild -o $(KERNEL)

.PHONY: examples
examples: $(EXAMPLES) ## build the example apps into out/examples/NAME/

out/examples/hello-c/hello-c: examples/hello-c/main.c
	@mkdir -p $(@D)
	$(CC) -static -O2 -Wall -Wextra -o $@ $<

# The go command knows best whether this is up to date.
out/examples/hello-go/hello-go: FORCE
	@mkdir -p $(@D)
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -trimpath -buildvcs=false -o $@ ./examples/hello-go

out/examples/%/imgbuild.yaml: examples/%/imgbuild.yaml
	@mkdir -p $(@D)
	cp $< $@

.PHONY: FORCE
FORCE:

# Steps in a recipe, not prerequisites: their order holds under make -j too.
.PHONY: demo
demo: ## install what is missing, build all, boot an example and show where the time went
	@scripts/setup demo
	@$(MAKE) --no-print-directory build examples
	bin/imgbuild --rofs --compress out/examples/hello-c -o out/hello-c.img
	bin/bootprof qemu out/hello-c.img

.PHONY: test
test: ## install what is missing, build all, run all tests
	@scripts/setup test
	-@scripts/linux-kernel >/dev/null
	-@scripts/zfs-tools >/dev/null
	@$(MAKE) --no-print-directory build examples
	$(GO) test -timeout 50m $(TESTFLAGS) ./...

.PHONY: bench
bench: build examples ## print the figures of README, measured on this machine
	scripts/bench

.PHONY: bench-prof
bench-prof: build examples ## print the figures of profiling, measured on this machine
	scripts/linux-kernel
	scripts/bench -prof

.PHONY: bench-kernel
bench-kernel: build examples ## print what the kernel's single operations cost, in guest instructions
	scripts/bench -kernel

.PHONY: bench-fs
bench-fs: build ## print the figures of the file systems beside those of other tools
	scripts/bench -fs -n 5

.PHONY: bench-zfs
bench-zfs: build examples ## print the figures of ZFS pools beside those of rofs and zfs-fuse
	-@scripts/zfs-tools >/dev/null
	scripts/bench -zfs -n 5

.PHONY: docs
docs: ## write docs/cli and docs/man from the commands themselves
	$(GO) run ./internal/docgen docs

.PHONY: lint
lint: ## check format, vet and build (for macOS too), staticcheck, and that docs/cli and docs/man are current
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt -w is due for:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/...
	GOOS=darwin $(GO) build ./cmd/...
	$(GO) tool staticcheck ./...
	$(GO) run ./internal/docgen -check docs

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: install
install: build ## install the commands, their man pages and shell completions below $(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(addprefix $(DESTDIR)$(PREFIX)/share/,$(COMPLETIONS))
	install -m 755 bin/imgbuild bin/bootprof $(DESTDIR)$(PREFIX)/bin
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	set -e; for c in imgbuild bootprof; do \
		bin/$$c completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$c; \
		bin/$$c completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$c; \
		bin/$$c completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$c.fish; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin out $(KERNEL)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
