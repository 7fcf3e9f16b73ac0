package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestExplain(t *testing.T) {
	eperm := fmt.Errorf("fork/exec: %w", syscall.EPERM)
	for _, test := range []struct {
		name      string
		files     map[string]string
		err       error
		why, hint string
	}{
		{"Debian 10", map[string]string{"sys/kernel/unprivileged_userns_clone": "0\n"}, eperm,
			"kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"RHEL 7", map[string]string{"sys/user/max_user_namespaces": "0\n"}, fmt.Errorf("x: %w", syscall.ENOSPC),
			"user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"Ubuntu 24.04", map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			fmt.Errorf("mount: %w", syscall.EACCES), "AppArmor", "apparmor_parser -r"},
		{"Ubuntu, another reason", map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			syscall.EINVAL, "this kernel", "use Docker"},
		{"Docker's profile", map[string]string{"self/status": "Name:\tkimg\nSeccomp:\t2\nSeccomp_filters:\t1\n"}, eperm,
			"a filter of system calls", "--security-opt seccomp=unconfined"},
		{"Docker's masks", map[string]string{"self/status": "Name:\tkimg\nSeccomp:\t0\n"},
			fmt.Errorf("mount proc: %w", syscall.EPERM), "/proc are masked", "systempaths=unconfined"},
		{"gVisor", nil, fmt.Errorf("load the seccomp filter: %w", syscall.EINVAL), "gVisor", "uidmap"},
		{"no reason", nil, errors.New("odd"), "cannot be started (odd)", "use Docker"},
	} {
		root := t.TempDir()
		for name, text := range test.files {
			file := filepath.Join(root, "proc", name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := explain(root, test.err)
		if !strings.Contains(err.Error(), test.why) || !strings.Contains(err.Hint(), test.hint) ||
			!errors.Is(err, test.err) {
			t.Errorf("%s: %v\nhint: %s", test.name, err, err.Hint())
		}
	}
}
