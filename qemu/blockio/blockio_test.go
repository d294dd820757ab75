package blockio_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu/blockio"
)

func decode(t testing.TB, log string, keep int) *blockio.Trace {
	t.Helper()
	tr, err := blockio.Decode(strings.NewReader(log), keep)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// seed is a trace of two disks with all that there may be: QEMU's own reads, requests that overlap, a flush, an error, one that does not
// end, and lines that are no events.
const seed = `7@100.000001:blk_co_preadv blk 0x10 bs 0x1 offset 0 bytes 512 flags 0x0
7@100.000002:blk_co_preadv blk 0x20 bs 0x2 offset 0 bytes 512 flags 0x0
qemu-system-x86_64: warning: something@else: here
8@101.000000:virtqueue_pop vq 0x7 elem 0xa0 in_num 2 out_num 1
8@101.000010:virtio_blk_handle_read vdev 0xd2 req 0xa0 sector 8 nsectors 16
8@101.000020:blk_co_preadv blk 0x20 bs 0x2 offset 4096 bytes 8192 flags 0x8
8@101.000030:virtqueue_pop vq 0x8 elem 0xb0 in_num 1 out_num 2
8@101.000040:virtio_blk_handle_write vdev 0xd1 req 0xb0 sector 1 nsectors 1
8@101.000045:blk_co_pwritev blk 0x10 bs 0x1 offset 512 bytes 512 flags 0x8
7@101.000100:virtio_blk_req_complete vdev 0xd2 req 0xa0 status 0
7@101.000090:virtio_blk_req_complete vdev 0xd1 req 0xb0 status 1
8@102.000000:virtqueue_pop vq 0x7 elem 0xa0 in_num 1 out_num 1
7@102.000500:virtio_blk_req_complete vdev 0xd2 req 0xa0 status 0
8@103.000000:virtqueue_pop vq 0x9 elem 0xc0 in_num 1 out_num 0
8@104.000000:virtio_blk_handle_read vdev 0xd2 req 0xa0 sector 0 nsectors 1
7@105.000000:virtio_blk_req_`

var seedRequests = []blockio.Request{
	{Op: blockio.Read, Disk: 1, Offset: 4096, Length: 8192, StartNanos: 101e9, EndNanos: 101e9 + 100e3},
	{Op: blockio.Write, Disk: 0, Offset: 512, Length: 512, StartNanos: 101e9 + 30e3, EndNanos: 101e9 + 90e3, Status: 1},
	{Op: blockio.Flush, Disk: 1, StartNanos: 102e9, EndNanos: 102e9 + 500e3},
	{Op: blockio.Read, Disk: 1, Length: 512, StartNanos: 104e9},
}

func TestDecode(t *testing.T) {
	want := &blockio.Trace{Requests: seedRequests, Total: 4, Disks: 2}
	if diff := cmp.Diff(want, decode(t, seed, 10)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want.Requests = seedRequests[:1]
	if diff := cmp.Diff(want, decode(t, seed, 1)); diff != "" {
		t.Errorf("one request is kept (-want +got)\n%s", diff)
	}
	long := "9@1.000000:virtio_blk_handle_read " + strings.Repeat("x", 10_000) + "\n"
	if diff := cmp.Diff(&blockio.Trace{Requests: seedRequests, Total: 4, Disks: 2}, decode(t, long+seed, 10)); diff != "" {
		t.Errorf("after a long line (-want +got)\n%s", diff)
	}
	if got := decode(t, "", 1); got.Total != 0 || got.Disks != 0 {
		t.Errorf("an empty trace: %+v", got)
	}
}

func TestDecodeDamage(t *testing.T) {
	for _, tt := range []struct{ line, field string }{
		{"8@x:virtio_blk_handle_read vdev 0x1 req 0x2 sector 8 nsectors 16", "time"},
		{"8@1.5:virtio_blk_handle_read vdev 0x1 req 0x2 sector 8 nsectors 16", "time"},
		{"8@1.000000:virtio_blk_handle_read vdev 0x1 req 0x2 sector 8", "nsectors"},
		{"8@1.000000:virtio_blk_handle_read vdev 0x1 req 0x2 sector -1 nsectors 1", "sector"},
		{"8@1.000000:virtio_blk_handle_read vdev 0x1 req 0x2 sector 0xffffffffffffffff nsectors 1", "sector"},
		{"8@1.000000:virtio_blk_req_complete vdev 0x1 req 0x2 status 256", "status"},
		{"8@1.000000:virtqueue_pop", "elem"},
		{"8@1.000000:blk_co_preadv blk ", "blk"},
	} {
		_, err := blockio.Decode(strings.NewReader("one\n"+tt.line+"\n"), 10)
		var fe *blockio.FormatError
		if !errors.As(err, &fe) || !errors.Is(err, blockio.ErrFormat) || fe.Field != tt.field || fe.Offset != 4 {
			t.Errorf("%q: %v", tt.line, err)
		}
	}
	broken := errors.New("broken")
	if _, err := blockio.Decode(iotest.ErrReader(broken), 1); !errors.Is(err, broken) {
		t.Errorf("of a file that cannot be read: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(seed), 10)
	f.Add([]byte(seed), 1)
	f.Add([]byte("1@1.000000:virtio_blk_req_complete vdev (nil) req 0x1 status 0\n"), 1)
	if diff := cmp.Diff(seedRequests, decode(f, seed, 10).Requests); diff != "" {
		f.Fatal(diff)
	}
	f.Fuzz(func(t *testing.T, log []byte, keep int) {
		keep &= 0xff
		tr, err := blockio.Decode(bytes.NewReader(log), keep)
		if err != nil {
			if !errors.Is(err, blockio.ErrFormat) {
				t.Error(err)
			}
			return
		}
		if len(tr.Requests) > keep || tr.Total < len(tr.Requests) || tr.Total > bytes.Count(log, []byte("\n")) {
			t.Errorf("%d requests of %d, keep %d", len(tr.Requests), tr.Total, keep)
		}
		for _, q := range tr.Requests {
			if q.EndNanos != 0 && q.EndNanos < q.StartNanos || q.Offset+q.Length < q.Offset || q.Disk < 0 || q.Disk > tr.Disks {
				t.Errorf("%+v", q)
			}
		}
	})
}

// bootSector is real-mode code for the second of two disks, which the firmware calls 0x80: it reads 3 sectors of the first disk
// from sector 7 on, writes one of the second, at 20, and exits. INT 13h: phoenix.com's EDD 3.0.
func bootSector() []byte {
	const base, exitPort = 0x7c00, 0x501
	code := []byte{0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0} // xor ax, ax; mov ds, ax; mov es, ax
	int13 := func(ah, drive byte, packet uint16) {
		// mov ah, AH; mov al, 0; mov dl, DRIVE; mov si, PACKET; int 13h
		code = append(code, 0xb4, ah, 0xb0, 0, 0xb2, drive, 0xbe, byte(packet), byte(packet>>8), 0xcd, 0x13)
	}
	int13(0x42, 0x81, base+0x100)
	int13(0x43, 0x80, base+0x110)
	code = append(code, 0xba, exitPort&0xff, exitPort>>8, 0xb0, 1, 0xee, 0xf4) // mov dx, PORT; mov al, 1; out dx, al; hlt
	b := make([]byte, 512)
	copy(b, code)
	packet := func(at int, count uint16, sector uint64) {
		b[at] = 16
		binary.LittleEndian.PutUint16(b[at+2:], count)
		binary.LittleEndian.PutUint16(b[at+4:], 0x8000) // buffer
		binary.LittleEndian.PutUint64(b[at+8:], sector)
	}
	packet(0x100, 3, 7)
	packet(0x110, 1, 20)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// TestQEMU traces a guest whose requests are known, on two disks, and one of them fails.
func TestQEMU(t *testing.T) {
	qemu := needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	for _, fail := range []bool{false, true} {
		dir := t.TempDir()
		first, second, log := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "log")
		boot := make([]byte, 1<<20)
		copy(boot, bootSector())
		for path, data := range map[string][]byte{first: make([]byte, 1<<20), second: boot} {
			if err := os.WriteFile(path, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		disk := "driver=raw,node-name=d0,file.driver=file,file.filename=" + first
		if fail {
			disk = "driver=raw,node-name=d0,file.driver=blkdebug,file.image.driver=file,file.image.filename=" + first +
				",file.inject-error.0.event=read_aio,file.inject-error.0.sector=8"
		}
		args := append([]string{"-M", "pc", "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
			"-device", "isa-debug-exit,iobase=0x501,iosize=0x04",
			"-blockdev", disk, "-device", "virtio-blk-pci,drive=d0",
			"-blockdev", "driver=raw,node-name=d1,file.driver=file,file.filename=" + second, "-device", "virtio-blk-pci,drive=d1,bootindex=1",
		}, blockio.Options(log)...)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		began := time.Now()
		out, err := exec.CommandContext(ctx, qemu, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || len(out) > 0 {
			t.Fatalf("QEMU: %v\n%s", err, out)
		}
		f, err := os.Open(log)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tr, err := blockio.Decode(f, 100)
		if err != nil {
			t.Fatal(err)
		}
		// The firmware may read a failed sector again, or sector by sector.
		status, reads := uint8(0), 0
		last := began.UnixNano()
		for i := range tr.Requests {
			q := &tr.Requests[i]
			if q.StartNanos < last-1000 || q.EndNanos < q.StartNanos || q.EndNanos > time.Now().UnixNano() {
				t.Errorf("%+v is not between %d and now", q, last)
			}
			last = q.EndNanos
			q.StartNanos, q.EndNanos = 0, 0
			if q.Disk == 0 {
				status, reads = max(status, q.Status), reads+1
				q.Status = 0
			}
		}
		if status == 1 != fail {
			t.Errorf("fail %v: the status of the first disk's requests is %d", fail, status)
		}
		want := []blockio.Request{
			{Op: blockio.Read, Disk: 1, Length: 512},
			{Op: blockio.Read, Disk: 0, Offset: 7 * 512, Length: 3 * 512},
			{Op: blockio.Write, Disk: 1, Offset: 20 * 512, Length: 512},
		}
		if diff := cmp.Diff(&blockio.Trace{Requests: want, Total: 3, Disks: 2}, tr); diff != "" && reads < 2 {
			t.Errorf("fail %v (-want +got)\n%s", fail, diff)
		}
	}
}
