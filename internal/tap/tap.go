// Package tap opens a TAP, a network interface of this machine that a program is the
// other end of ([Open]), and carries its frames over a stream ([Relay]).
package tap

import (
	"fmt"
	"os"
	"os/user"
)

// Error says why an interface cannot be used.
type Error struct {
	Name string
	Why  string
	Way  string // what to do about it
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("use the interface %s: %s", e.Name, e.Why) }

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Hint() string { return e.Way }

// create says how to make an interface that this user may use.
func create(name string) string {
	owner := "$USER"
	if u, err := user.Current(); err == nil {
		owner = u.Username
	}
	return fmt.Sprintf("kimg makes no interfaces; this does: %[3]sip tuntap add dev %[1]s mode tap user %[2]s && "+
		"%[3]sip link set dev %[1]s up", name, owner, sudo())
}

// sudo begins a command that only root may run.
func sudo() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}
