package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// LackError says why this user cannot have sandboxes on this machine.
type LackError struct {
	Why  string
	hint string
	Err  error // of the attempt
}

func (e *LackError) Error() string { return e.Why + " (" + e.Err.Error() + ")" }
func (e *LackError) Unwrap() error { return e.Err }

// Hint is the line that helps.
func (e *LackError) Hint() string { return e.hint }

// Check starts a sandbox of these ids and ends it, which takes some 10 ms. Its root is the directory root, in which it
// makes those that it mounts on. The error is a *LackError.
func Check(ctx context.Context, ids IDs, root string) error {
	s, err := Start(ctx, Config{IDs: ids, Root: root})
	if err == nil {
		return s.Close()
	}
	if ctx.Err() != nil {
		return err
	}
	return explain("/", err)
}

// The lines that help.
const (
	hintOutside = "run kimg outside of it, start it with " +
		`"--security-opt seccomp=unconfined --security-opt systempaths=unconfined", or hand it an engine's socket`
	hintEngine = "use Docker or Podman"
)

// explain looks for the reason of a failed attempt. root is where proc is, for tests.
// Sources: user_namespaces(7), seccomp(2), namespaces(7); for AppArmor the Ubuntu Security Team's
// "Restricted unprivileged user namespaces"; for the other two Debian's and Ubuntu's patches to Linux.
func explain(root string, err error) *LackError {
	file := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(root, name)) // what is not there says nothing
		return strings.TrimRight(string(b), "\n\x00")
	}
	sysctl := func(name string) string { return file("proc/sys/" + strings.ReplaceAll(name, ".", "/")) }
	lack := func(why, hint string) *LackError { return &LackError{Why: why, hint: hint, Err: err} }
	const clone, limit, apparmor = "kernel.unprivileged_userns_clone", "user.max_user_namespaces",
		"kernel.apparmor_restrict_unprivileged_userns"
	refused := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)
	switch {
	case errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux":
		return lack("containers need Linux", "start Docker Desktop, Colima or a podman machine")
	case sysctl(clone) == "0":
		return lack("user namespaces are for root alone: "+clone+" is 0", "sudo sysctl -w "+clone+"=1")
	case errors.Is(err, syscall.ENOSPC) || sysctl(limit) == "0":
		return lack("there may be no more user namespaces: "+limit+" is "+sysctl(limit),
			"sudo sysctl -w "+limit+"=15000")
	case refused && sysctl(apparmor) == "1":
		return lack("AppArmor keeps programs that it has no profile of from user namespaces: "+apparmor+" is 1",
			appArmorProfile())
	case refused && strings.Contains(err.Error(), "mount proc"):
		return lack("parts of /proc are masked here, as in a container, and there may be no other then", hintOutside)
	case refused && strings.Contains(file("proc/self/status"), "\nSeccomp:\t2"):
		return lack("a filter of system calls forbids user namespaces, as Docker's does in a container", hintOutside)
	case strings.Contains(err.Error(), "seccomp"):
		return lack("there is no seccomp user notification, which is in Linux since 5.5 and in gVisor not at all",
			"with ids of this user's own it is not needed: sudo apt-get install uidmap, "+
				"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"; or "+hintEngine)
	case errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS):
		return lack("this kernel has no user namespaces, or not all that kimg needs", hintEngine)
	}
	return lack("a sandbox cannot be started", hintEngine)
}

// appArmorProfile is the command that allows this program its user namespaces.
func appArmorProfile() string {
	self, err := os.Executable()
	if err != nil {
		self = "/path/to/kimg"
	}
	return `printf 'abi <abi/4.0>,\nprofile kimg "` + self + `" flags=(unconfined) { userns, }\n' | ` +
		"sudo tee /etc/apparmor.d/kimg && sudo apparmor_parser -r /etc/apparmor.d/kimg"
}
