package container

import (
	"errors"
	"fmt"
	"io"
	"path"
)

// Cmd describes one process in one container, as exec.Cmd does for the host. What it does not ask for it does not
// get: no capabilities, no new privileges. The zero value of each field is the least of it. No container has a
// network.
type Cmd struct {
	Image string   // a reference or an image's id
	Args  []string // the whole argv; an image's entrypoint is never used
	Env   []string // NAME=value, added to the image's own
	Dir   string   // working directory; empty: the image's
	User  string   // "uid[:gid]" or names; empty: the image's

	Caps       []string // capabilities the process gets, without CAP_: "CHOWN"; all others are dropped
	Privileged bool     // everything, and new privileges; Caps is then not looked at
	// Namespaces lets processes make user namespaces below the container's, and mount in them; on an engine that runs
	// containers in a user namespace of its own, as the embedded one does, in that.
	Namespaces bool
	HostUsers  bool     // an engine that remaps users does not do so here: User is the machine's, as on other engines
	ReadOnly   bool     // the container's own layer cannot be written to
	Devices    []string // device nodes of the engine's host, such as /dev/kvm, under the same path
	Mounts     []Mount
	Tmpfs      map[string]string // target to mount options, such as "size=1g,mode=1777"
	Init       bool              // the engine's init is pid 1: it reaps children and passes signals on
	Hostname   string            // empty: the engine's choice

	// Stdin is copied to the process; its end is the process's end of file, but not on a terminal, where only a
	// Ctrl-D is. A Read that blocks for ever outlives the command, as with exec.Cmd.
	Stdin io.Reader
	// Stdout and Stderr get what the process writes, byte for byte. nil drops
	// it. With TTY everything arrives on Stdout.
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Winsize // sizes for the terminal, the first one as early as it is known; only with TTY
}

// Mount makes a volume, or a file or directory of the engine's host, visible at Target.
// Exactly one of Volume and Bind is set.
type Mount struct {
	Volume   string // a volume's name
	Bind     string // an absolute path on the engine's host; it must exist
	Target   string // an absolute path in the container
	ReadOnly bool
	Devices  bool // device nodes on it work, which with Podman has to be asked for; not with ReadOnly
}

// check says what is wrong with a Cmd, whatever the engine.
func (cmd *Cmd) check() error {
	if cmd.Image == "" || len(cmd.Args) == 0 {
		return errors.New("a command needs an image and arguments")
	}
	if cmd.Resize != nil && !cmd.TTY {
		return errors.New("only a terminal can be resized")
	}
	for _, m := range cmd.Mounts {
		switch {
		case (m.Volume == "") == (m.Bind == ""):
			return fmt.Errorf("mount %q: want either a volume or a bind", m.Target)
		case m.Devices && m.ReadOnly:
			return fmt.Errorf("mount %q: device nodes are for what can be written to", m.Target)
		case !path.IsAbs(m.Target):
			return fmt.Errorf("mount %q: the target is not an absolute path", m.Target)
		}
	}
	return nil
}

// Winsize is a terminal's size in characters.
type Winsize struct{ Rows, Cols uint }

// ExecCmd describes one more process in a container that runs. It has the
// container's capabilities, network and mounts.
type ExecCmd struct {
	Args           []string
	Env            []string
	User, Dir      string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Winsize
}

// ExitError says that a process ran and ended with a status other than zero.
type ExitError struct {
	Code      int  // the exit status; 128+n when signal n ended it
	OOMKilled bool // the engine's memory limit, or the host's end of memory, ended it
}

func (e *ExitError) Error() string {
	if e.OOMKilled {
		return fmt.Sprintf("exit status %d (killed: out of memory)", e.Code)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// BuildSpec describes an image that is built from a Dockerfile.
type BuildSpec struct {
	Context    io.Reader // a tar, plain or compressed with gzip
	Dockerfile string    // its path in the context; empty: Dockerfile
	Target     string    // the stage to stop at; empty: the last
	Tag        string    // what the result is called
	Args       map[string]string
	Labels     map[string]string // added to kimg=1
	Log        io.Writer         // what the builder says; nil drops it
}
