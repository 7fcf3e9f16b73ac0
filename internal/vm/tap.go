package vm

import (
	"fmt"
	"os"
	"os/user"
)

// TAPError says why an interface cannot be the guest's.
type TAPError struct {
	Name string
	Why  string
	Way  string // the way out
	Err  error
}

func (e *TAPError) Error() string { return fmt.Sprintf("use the interface %s: %s", e.Name, e.Why) }

func (e *TAPError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *TAPError) Hint() string { return e.Way }

// createTAP is what makes an interface that this person may use.
func createTAP(name string) string {
	owner := "$USER"
	if u, err := user.Current(); err == nil {
		owner = u.Username
	}
	commands := fmt.Sprintf("ip tuntap add dev %s mode tap user %s && %sip link set dev %s up", name, owner, sudo(), name)
	return "kimg makes no interfaces; this does: " + sudo() + commands
}

// sudo begins a command that only root may give.
func sudo() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}
