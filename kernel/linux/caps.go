package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Capabilities (include/uapi/linux/capability.h). Each thread begins with all of them and may give them up; of those that there are
// only CAP_IPC_LOCK is asked for here.
const (
	capIPCLock = 14
	capAll     = 1<<41 - 1
)

// capabilities of a thread; bit n is capability n.
type capabilities struct{ effective, permitted, inheritable uint64 }

// capHeader reads the header that capget and capset begin with: how many words each set has, and the thread.
func (p *process) capHeader(t *thread, addr uint64) (words int, of *thread, err vfs.Errno) {
	var b [8]byte
	if !p.mm.copyIn(b[:], addr) {
		return 0, nil, vfs.EFAULT
	}
	switch le32(b[:]) {
	case 0x19980330:
		words = 1
	case 0x20071026, 0x20080522:
		words = 2
	default:
		if !p.mm.put32(addr, 0x20080522) {
			return 0, nil, vfs.EFAULT
		}
		return 0, nil, vfs.EINVAL
	}
	switch tid := int32(le32(b[4:])); {
	case tid < 0:
		return 0, nil, vfs.EINVAL
	case tid == 0:
		return words, t, 0
	default:
		if of = p.byTID(int(tid)); of == nil {
			err = vfs.ESRCH
		}
		return words, of, err
	}
}

func (p *process) capget(t *thread, header, data uint64) int64 {
	words, of, err := p.capHeader(t, header)
	if data == 0 && (err == 0 || err == vfs.EINVAL && words == 0) {
		return 0
	}
	if err != 0 {
		return -int64(err)
	}
	var b [24]byte
	for w := range words {
		at := b[12*w:]
		set32(at, uint32(of.caps.effective>>(32*w)))
		set32(at[4:], uint32(of.caps.permitted>>(32*w)))
		set32(at[8:], uint32(of.caps.inheritable>>(32*w)))
	}
	if !p.mm.copyOut(data, b[:12*words]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) capset(t *thread, header, data uint64) int64 {
	words, of, err := p.capHeader(t, header)
	if err == 0 && of != t || err == vfs.ESRCH {
		err = vfs.EPERM
	}
	if err != 0 {
		return -int64(err)
	}
	var b [24]byte
	if !p.mm.copyIn(b[:12*words], data) {
		return -int64(vfs.EFAULT)
	}
	set := func(at int) uint64 { return (uint64(le32(b[at:])) | uint64(le32(b[12+at:]))<<32) & capAll }
	c := capabilities{set(0), set(4), set(8)}
	if c.inheritable&^(t.caps.inheritable|t.caps.permitted) != 0 || c.permitted&^t.caps.permitted != 0 || c.effective&^c.permitted != 0 {
		return -int64(vfs.EPERM)
	}
	t.caps = c
	return 0
}
