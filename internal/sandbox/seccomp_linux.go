package sandbox

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

// arches are those whose programs run: this one's own, and its 32-bit one.
var arches = map[string][2]*arch.Info{
	"amd64": {arch.X86_64, arch.I386},
	"arm64": {arch.AARCH64, arch.ARM},
}

const (
	refuse = uint32(unix.SECCOMP_RET_ERRNO)
	noSuch = refuse | uint32(unix.ENOSYS)
	// x32 is the bit of system calls of the x32 ABI, which have x86-64's architecture.
	x32 = 0x40000000
)

var filters struct {
	sync.Mutex
	byCaps map[uint64][]unix.SockFilter
}

// filterFor returns Docker's default filter for a process with these capabilities, and a little less: nobody types
// into a terminal, and sockets by i386's socketcall, whose families no filter can see, are not known.
func filterFor(caps uint64) ([]unix.SockFilter, error) {
	filters.Lock()
	defer filters.Unlock()
	if f := filters.byCaps[caps]; f != nil {
		return f, nil
	}
	var names []string
	for i, n := range capNames {
		if caps>>i&1 == 1 {
			names = append(names, "CAP_"+n)
		}
	}
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: names}},
	})
	if err != nil {
		return nil, fmt.Errorf("read the seccomp profile: %w", err)
	}
	f, err := compile(profile, arches[runtime.GOARCH])
	if err != nil {
		return nil, fmt.Errorf("compile the seccomp profile: %w", err)
	}
	if filters.byCaps == nil {
		filters.byCaps = map[uint64][]unix.SockFilter{}
	}
	filters.byCaps[caps] = f
	return f, nil
}

// NestingProfile is Docker's default filter, in Docker's JSON, of a container that may make user namespaces and mount
// in them. What a process may do there it may do to itself alone.
func NestingProfile() (string, error) {
	profile := seccomp.DefaultProfile()
	profile.Syscalls = append(profile.Syscalls, &seccomp.Syscall{LinuxSyscall: specs.LinuxSyscall{
		Names: []string{"clone", "unshare", "mount", "umount2", "fsopen", "fsconfig", "fsmount", "move_mount",
			"open_tree", "mount_setattr"},
		Action: specs.ActAllow,
	}})
	b, err := json.Marshal(profile)
	return string(b), err
}

// compile makes a filter of a profile, one part for each architecture. The rule that matches first decides.
func compile(profile *specs.LinuxSeccomp, arches [2]*arch.Info) ([]unix.SockFilter, error) {
	var prog []unix.SockFilter
	for _, a := range arches {
		if a == nil {
			return nil, fmt.Errorf("%s has no table of system calls", runtime.GOARCH)
		}
		rules, err := compileArch(profile, a)
		if err != nil {
			return nil, err
		}
		prog = append(prog, watch.Load(watch.Arch), watch.Jump(unix.BPF_JEQ, uint32(a.ID), 1, 0),
			watch.Skip(len(rules)))
		prog = append(prog, rules...)
	}
	prog = append(prog, watch.Give(noSuch))
	if len(prog) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("it has %d instructions", len(prog))
	}
	return prog, nil
}

func compileArch(profile *specs.LinuxSeccomp, a *arch.Info) ([]unix.SockFilter, error) {
	prog := []unix.SockFilter{watch.Load(watch.Number)}
	if a == arch.X86_64 {
		prog = append(prog, watch.Jump(unix.BPF_JGE, x32, 0, 1), watch.Give(noSuch))
	}
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
		prog = append(prog, watch.Jump(unix.BPF_JEQ, uint32(a.SyscallNames["ioctl"]), 0, 4),
			watch.Load(watch.Argument(1)),
			watch.Jump(unix.BPF_JEQ, request, 0, 1), watch.Give(refuse|uint32(unix.EPERM)), watch.Load(watch.Number))
	}
	// Another's limits are pid 1's, too, which has the same user; its own are set with pid 0 (setrlimit(3)).
	prog = append(prog, watch.Jump(unix.BPF_JEQ, uint32(a.SyscallNames["prlimit64"]), 0, 8),
		watch.Load(watch.Argument(0)), watch.Jump(unix.BPF_JEQ, 0, 5, 0),
		watch.Load(watch.Argument(2)), watch.Jump(unix.BPF_JEQ, 0, 0, 2),
		watch.Load(watch.Argument(2)+4), watch.Jump(unix.BPF_JEQ, 0, 1, 0),
		watch.Give(refuse|uint32(unix.EPERM)), watch.Load(watch.Number))
	last := 0
	for _, rule := range profile.Syscalls {
		action, err := action(rule.Action, rule.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range rule.Names {
			nr, ok := a.SyscallNames[name]
			if !ok { // a profile is for all architectures
				continue
			}
			last = max(last, nr)
			body := []unix.SockFilter{watch.Give(action)}
			switch {
			case name == "socketcall":
				body = []unix.SockFilter{watch.Give(noSuch)}
			case len(rule.Args) > 0:
				if body, err = condition(rule.Args, action); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			prog = append(prog, watch.Jump(unix.BPF_JEQ, uint32(nr), 0, uint8(len(body))))
			prog = append(prog, body...)
		}
	}
	// What the profile's authors had not heard of is not there, so that a C library tries something older (runc).
	prog = append(prog, watch.Jump(unix.BPF_JGT, uint32(last), 0, 1), watch.Give(noSuch))
	deny, err := action(profile.DefaultAction, profile.DefaultErrnoRet)
	return append(prog, watch.Give(deny)), err
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch {
	case a == specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case a == specs.ActErrno && errno != nil:
		return refuse | uint32(*errno), nil
	case a == specs.ActErrno:
		return refuse | uint32(unix.EPERM), nil
	}
	return 0, fmt.Errorf("action %s is not known", a)
}

// condition is the body of a rule that looks at one argument; where it does not hold, the number is loaded again.
func condition(args []specs.LinuxSeccompArg, action uint32) ([]unix.SockFilter, error) {
	a := args[0]
	if len(args) > 1 {
		return nil, fmt.Errorf("%d conditions", len(args))
	}
	high, low := watch.Load(watch.Argument(int(a.Index))+4), watch.Load(watch.Argument(int(a.Index)))
	and := func(mask uint64) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: uint32(mask)}
	}
	end := []unix.SockFilter{watch.Give(action), watch.Load(watch.Number)}
	switch v := a.Value; {
	case a.Op == specs.OpEqualTo:
		return append([]unix.SockFilter{high, watch.Jump(unix.BPF_JEQ, uint32(v>>32), 0, 3),
			low, watch.Jump(unix.BPF_JEQ, uint32(v), 0, 1)}, end...), nil
	case a.Op == specs.OpLessThan && v < 1<<32:
		return append([]unix.SockFilter{high, watch.Jump(unix.BPF_JEQ, 0, 0, 3),
			low, watch.Jump(unix.BPF_JGE, uint32(v), 1, 0)}, end...), nil
	case a.Op == specs.OpMaskedEqual:
		return append([]unix.SockFilter{high, and(v >> 32), watch.Jump(unix.BPF_JEQ, uint32(a.ValueTwo>>32), 0, 4),
			low, and(v), watch.Jump(unix.BPF_JEQ, uint32(a.ValueTwo), 0, 1)}, end...), nil
	}
	return nil, fmt.Errorf("condition %s is not known", a.Op)
}
