package sandbox

import (
	"runtime"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// verdict runs a filter as the kernel does.
func verdict(t *testing.T, prog []unix.SockFilter, a *arch.Info, nr int, args ...uint64) uint32 {
	t.Helper()
	words := make([]uint32, 16)
	words[0], words[1] = uint32(nr), uint32(a.ID)
	for i, v := range args {
		words[4+2*i], words[5+2*i] = uint32(v), uint32(v>>32)
	}
	acc := uint32(0)
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		yes := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = words[i.K/4]
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = acc == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			yes = acc > i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = acc >= i.K
		default:
			t.Fatalf("instruction %+v", i)
		}
		if yes {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

func TestFilter(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the table is of amd64")
	}
	const (
		allow = unix.SECCOMP_RET_ALLOW
		eperm = refuse | uint32(unix.EPERM)
	)
	for _, tt := range []struct {
		name string
		caps []string
		a    *arch.Info
		call string
		args []uint64
		want uint32
	}{
		{"read", nil, arch.X86_64, "read", nil, allow},
		{"read, i386", nil, arch.I386, "read", nil, allow},
		{"chown32, i386", nil, arch.I386, "chown32", nil, allow},
		{"mount", nil, arch.X86_64, "mount", nil, eperm},
		{"mount, i386", nil, arch.I386, "mount", nil, eperm},
		{"mount by SYS_ADMIN", []string{"SYS_ADMIN"}, arch.X86_64, "mount", nil, allow},
		{"fork", nil, arch.X86_64, "clone", []uint64{uint64(unix.SIGCHLD)}, allow},
		{"thread", nil, arch.X86_64, "clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"user namespace", nil, arch.X86_64, "clone", []uint64{unix.CLONE_NEWUSER}, eperm},
		{"network namespace, i386", nil, arch.I386, "clone", []uint64{unix.CLONE_NEWNET}, eperm},
		{"clone3", nil, arch.X86_64, "clone3", nil, noSuch},
		{"unshare", nil, arch.X86_64, "unshare", []uint64{unix.CLONE_NEWUSER}, eperm},
		{"socket", nil, arch.X86_64, "socket", []uint64{unix.AF_UNIX}, allow},
		{"netlink", nil, arch.X86_64, "socket", []uint64{unix.AF_NETLINK}, allow},
		{"vsock", nil, arch.X86_64, "socket", []uint64{unix.AF_VSOCK}, eperm},
		{"vsock, i386", nil, arch.I386, "socket", []uint64{unix.AF_VSOCK}, eperm},
		{"vsock that looks like none", nil, arch.X86_64, "socket", []uint64{unix.AF_VSOCK | 1<<32}, eperm},
		{"socketcall, i386", nil, arch.I386, "socketcall", nil, noSuch},
		{"personality", nil, arch.X86_64, "personality", []uint64{0xffffffff}, allow},
		{"no randomising", nil, arch.X86_64, "personality", []uint64{0x40000}, eperm},
		{"an ioctl", nil, arch.X86_64, "ioctl", []uint64{0, unix.TCGETS}, allow},
		{"typing", nil, arch.X86_64, "ioctl", []uint64{0, unix.TIOCSTI}, eperm},
		{"typing, disguised", nil, arch.X86_64, "ioctl", []uint64{0, unix.TIOCSTI | 7<<32}, eperm},
		{"typing, i386", nil, arch.I386, "ioctl", []uint64{0, unix.TIOCSTI}, eperm},
		{"pasting", nil, arch.X86_64, "ioctl", []uint64{0, unix.TIOCLINUX}, eperm},
		{"own limits", nil, arch.X86_64, "prlimit64", []uint64{0, unix.RLIMIT_NOFILE, 1 << 40}, allow},
		{"another's limits, asked for", nil, arch.X86_64, "prlimit64", []uint64{1, unix.RLIMIT_NOFILE, 0}, allow},
		{"another's limits", nil, arch.X86_64, "prlimit64", []uint64{1, unix.RLIMIT_NOFILE, 1 << 40}, eperm},
		{"another's limits, i386", nil, arch.I386, "prlimit64", []uint64{1, unix.RLIMIT_NOFILE, 16}, eperm},
		{"by handle", nil, arch.X86_64, "open_by_handle_at", nil, eperm},
		{"keyctl", nil, arch.X86_64, "keyctl", nil, eperm},
		{"bpf", nil, arch.X86_64, "bpf", nil, eperm},
	} {
		caps, err := capSet(tt.caps)
		if err != nil {
			t.Fatal(err)
		}
		f, err := filterFor(caps)
		if err != nil {
			t.Fatal(err)
		}
		nr, ok := tt.a.SyscallNames[tt.call]
		if !ok {
			t.Fatalf("no number of %s", tt.call)
		}
		if got := verdict(t, f, tt.a, nr, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	f, err := filterFor(0)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]uint32{
		"x32":              verdict(t, f, arch.X86_64, x32|1),
		"another machine":  verdict(t, f, arch.AARCH64, 1),
		"of the future":    verdict(t, f, arch.X86_64, 5000),
		"a negative one":   verdict(t, f, arch.X86_64, -1),
		"i386, the future": verdict(t, f, arch.I386, 5000),
	} {
		if got != noSuch {
			t.Errorf("%s: %#x", name, got)
		}
	}
	if _, err := compile(nil, [2]*arch.Info{}); err == nil {
		t.Error("an architecture without tables has a filter")
	}
}

func BenchmarkFilter(b *testing.B) {
	for i := range b.N {
		if _, err := filterFor(uint64(i) % (1 << 41)); err != nil {
			b.Fatal(err)
		}
	}
}
