package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sandbox/foreign"
)

// Capability is a capability that a step's container gets, and why it needs it.
type Capability struct{ Name, Why string }

// BootstrapCaps are all that debootstrap's container gets. Each was removed in turn (trixie's minbase; bullseye's
// standard variant with openssh-server, man-db and mtr-tiny): without the last two, maintainer scripts do as root
// what they should do as others; without any other, the bootstrap fails or its tree differs.
var BootstrapCaps = []Capability{
	{"CHOWN", "packages own files as other users than root"},
	{"DAC_OVERRIDE", "root works in directories that belong to others: the volume's, apt's, man's"},
	{"FOWNER", "dpkg sets the modes of directories that it has given to others (man-db fails)"},
	{"FSETID", "set-group-id stays on programs of groups that root is not in (chage, unix_chkpwd)"},
	{"SETFCAP", "maintainer scripts give programs file capabilities (ping, before trixie)"},
	{"SYS_CHROOT", "debootstrap's second stage runs inside the tree"},
	{"SETGID", "maintainer scripts run programs as other users"},
	{"SETUID", "maintainer scripts run programs as other users"},
}

// includes are what a minimal guest needs on top of debootstrap's minbase to boot
// under systemd to a shell on the serial console, with a network.
var includes = []string{
	"dbus",         // systemctl, networkctl and hostnamectl
	"iproute2",     // ip
	"iputils-ping", // ping
	"kmod",         // modules, for kernels that have them
	"login",        // the console's session; no longer everywhere part of minbase
	"netbase",      // /etc/protocols and /etc/services
	"procps",       // ps, sysctl
	"systemd-sysv", // init, with systemd and its networkd
	"udev",         // networkd waits for udev's word that an interface is ready
}

// Includes returns the packages that kimg adds to a variant: debootstrap's
// --include, to be resolved with what the user includes.
func Includes(v Variant) []string {
	// The standard variant has all of these but these few.
	if v == Standard {
		return []string{"dbus", "systemd-sysv"}
	}
	return append([]string(nil), includes...)
}

// RootfsSpec says which tree Bootstrap makes.
type RootfsSpec struct {
	Suite          Suite
	Arch           Arch // of the packages; zero: the default
	Variant        Variant
	Components     []string  // that the guest's apt reads; none: the family's own
	Required, Base []Package // what debootstrap installs, in its order
	Epoch          time.Time // no file is younger
	Privileged     bool      // a fully privileged container, for engines that need it
}

func (s RootfsSpec) check() error {
	if s.Suite.Family == nil {
		return errors.New("bootstrap: no suite is named")
	}
	if s.Variant != Minbase && s.Variant != Standard {
		return fmt.Errorf("bootstrap %s: unknown variant %q", s.Suite, s.Variant)
	}
	return nil
}

// workDir is where the imaging image has a directory for the step's volume.
const workDir = "/kimg/work"

//go:embed bootstrap.sh
var bootstrapScript string

//go:embed emulate.sh
var emulateScript string

// Emulation is a way to run the programs of another architecture than the engine's. The tree is the same bits whichever
// it is.
type Emulation string

// The ways. Empty: the first of these that works.
const (
	EmulateNamespace Emulation = "namespace" // binfmt_misc of a user namespace of the container's own (Linux 6.7)
	EmulateMachine   Emulation = "machine"   // what the engine's machine has registered
	EmulateTrace     Emulation = "trace"     // kimg traces all processes (ptrace) and has them execute the emulator
)

// ParseEmulation reads the name of a way; none is the first that works.
func ParseEmulation(name string) (Emulation, error) {
	switch e := Emulation(name); e {
	case "", EmulateNamespace, EmulateMachine, EmulateTrace:
		return e, nil
	}
	return "", fmt.Errorf("there is no way %q to run another architecture's programs: want %s, %s or %s", name,
		EmulateNamespace, EmulateMachine, EmulateTrace)
}

// ForeignError says that the engine's machine does not run the programs of an architecture.
type ForeignError struct {
	Arch Arch
	By   Emulation // the only way that was to be taken; empty: none does
	Err  error
}

func (e *ForeignError) Error() string {
	by := ""
	if e.By != "" {
		by = fmt.Sprintf(" by the way %q", string(e.By))
	}
	return fmt.Sprintf("the container engine's machine does not run programs of %s%s: %v", e.Arch, by, e.Err)
}

func (e *ForeignError) Unwrap() error { return e.Err }

// Hint says what does.
func (e *ForeignError) Hint() string {
	const other = "; where no way is asked for, kimg takes one that works"
	switch e.By {
	case EmulateNamespace:
		return "it takes Linux 6.7 and an engine that lets a container make a user namespace" + other
	case EmulateMachine:
		return "binfmt_misc of the engine's machine has to know them, as Docker Desktop's does, and as the package " +
			"qemu-user-binfmt has it" + other
	}
	return "it takes an engine whose containers may trace their own processes (ptrace), and a kimg for Linux on the " +
		"engine's architecture (try --engine embedded); or Linux 6.7 and user namespaces in containers; or " +
		"binfmt_misc on the engine's machine, as Docker Desktop and the package qemu-user-binfmt have it"
}

// isForeign reports whether an architecture's programs have to be emulated on an engine, which is of the architecture
// that container.Info says.
func isForeign(a Arch, engine string) bool { return a.OCI != cmp.Or(engine, arch.Default.OCI) }

// Bootstrap runs debootstrap in a container of the imaging image, offline, on packages from pkgs, and writes the
// normalised tar of the tree to out. What debootstrap prints goes to the log.
//
// debootstrap checks no signatures here: with an unpack tarball it looks at no Release file at all. It need not:
// every package comes by its sha256 from a lock, or from an index that kimg verified, and is checked again while it
// is read. (Letting debootstrap fetch would be worse: it installs unsigned packages when its keyring is missing.)
func (m Maker) Bootstrap(ctx context.Context, spec RootfsSpec, pkgs Packages, out io.Writer) (err error) {
	if err := spec.check(); err != nil {
		return err
	}
	engine := m.Engine.Info()
	cmd, err := bootstrapCmd(m.Imaging, engine.Arch, m.Emulation, spec)
	if err != nil {
		return err
	}
	var volume string
	if size, ok := inMemory(engine.Memory, spec); ok {
		cmd.Tmpfs = map[string]string{workDir: fmt.Sprintf("exec,mode=0755,size=%d", size)}
	} else {
		if volume, err = container.TempVolume(ctx, m.Engine); err != nil {
			return fmt.Errorf("bootstrap %s: %w", spec.Suite, err)
		}
		defer func() { err = errors.Join(err, m.Engine.RemoveVolume(ctx, volume)) }()
	}
	cmd.Mounts = bootstrapMounts(volume)

	raw, tree := io.Pipe()
	said := &complaints{w: m.log(), by: m.Emulated}
	packed, unpacked := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = packed, tree, said
	c, err := m.Engine.Create(ctx, cmd)
	if err != nil {
		return fmt.Errorf("bootstrap %s: %w", spec.Suite, err)
	}
	// Deferred later, so done earlier: a volume in use cannot be removed.
	defer func() { err = errors.Join(err, c.Remove(ctx)) }()

	if volume != "" {
		err = c.CopyIn(ctx, workDir, bytes.NewReader(targetDirs()))
	}
	if err == nil {
		err = m.emulationIn(ctx, c, archOr(spec.Arch))
	}
	if err != nil {
		return fmt.Errorf("bootstrap %s: %w", spec.Suite, err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	if err := c.Start(running); err != nil {
		return fmt.Errorf("bootstrap %s: %w", spec.Suite, err)
	}
	handed := make(chan error, 1)
	go func() {
		err := handOver(running, c, unpacked, said, pkgs, spec)
		if err != nil { // for which the container may be the reason, that ends
			select {
			case <-running.Done():
			case <-time.After(time.Second):
				stop()
			}
		}
		handed <- err
	}()
	ended := make(chan error, 1)
	go func() {
		err := c.Wait()
		stop()
		ended <- err
		tree.CloseWithError(err) // nil is the end of the tar
	}()
	nerr := Normalise(raw, out, Normalisation{
		Epoch: spec.Epoch,
		Files: func(has func(string) bool) []File {
			return guestFiles(spec.Suite, spec.Arch, spec.Components, has("usr/sbin/sshd"), spec.Epoch)
		},
	})
	raw.CloseWithError(nerr) // a container that still writes comes to its end by it
	werr := <-ended
	packed.CloseWithError(io.ErrClosedPipe)
	herr := <-handed
	var exit *container.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	// An end of the container's, which has a reason of its own, is no error of the packages'.
	case herr != nil && !errors.As(werr, &exit) && !errors.Is(herr, io.ErrClosedPipe) &&
		!errors.Is(herr, context.Canceled):
		return fmt.Errorf("hand the packages of %s to debootstrap: %w", spec.Suite, herr)
	case errors.As(werr, &exit) && said.noForeign() != "":
		return &ForeignError{archOr(spec.Arch), m.Emulation, errors.New(said.noForeign())}
	case werr != nil && (nerr == nil || !errors.Is(werr, nerr)):
		return fmt.Errorf("debootstrap %s: %w", spec.Suite, said.because(werr))
	}
	return nerr
}

// keepScript keeps the base's packages for bootstrap.sh, which waits for the whole: its input may end before, where the
// last line is another one.
const (
	keepScript = `cat >"$1/base.part" &&
		tail --bytes=12 "$1/base.part" | grep --quiet --text --line-regexp 'kimg: whole' &&
		truncate --size=-12 "$1/base.part" && mv "$1/base.part" "$1/base.tar"`
	whole = "kimg: whole\n"
)

// handOver lays the packages for debootstrap: the required ones for its container's input, and the base's for one
// more process in there, while these are configured.
func handOver(ctx context.Context, c container.Container, required *io.PipeWriter, log io.Writer, pkgs Packages,
	spec RootfsSpec) error {

	in, base := io.Pipe()
	var kept chan error // nil until the base begins
	err := layTree(ctx, required, func() io.Writer {
		required.Close()
		kept = make(chan error, 1)
		go func() {
			err := c.Exec(ctx, &container.ExecCmd{Args: []string{"sh", "-c", keepScript, "keep", workDir},
				User: "0:0", Stdin: in, Stderr: log})
			in.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
			kept <- err
		}()
		return base
	}, pkgs, spec)
	required.CloseWithError(err)
	if err == nil && kept != nil {
		_, _ = io.WriteString(base, whole) // an end of the container's says more
	}
	base.CloseWithError(err)
	if kept != nil {
		err = cmp.Or(err, <-kept)
	}
	return err
}

// boundDevices are the nodes that debootstrap and maintainer scripts use. They are the engine's own, bound into the
// tree: in a user namespace nobody can make one.
var boundDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// bootstrapMounts are the step's volume, if there is one, and the devices of the tree that grows in it.
func bootstrapMounts(volume string) []container.Mount {
	var mounts []container.Mount
	if volume != "" {
		mounts = append(mounts, container.Mount{Volume: volume, Target: workDir, Devices: true})
	}
	for _, d := range boundDevices {
		mounts = append(mounts, container.Mount{
			Bind: "/dev/" + d, Target: workDir + "/target/dev/" + d, Devices: true})
	}
	return mounts
}

// targetDirs is a tar of the directories in a volume that the devices are in, which an engine that remaps users makes
// for them as another's than the container's root.
func targetDirs() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, d := range []string{"target/", "target/dev/"} {
		// A directory's header in memory is no error.
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755})
	}
	_ = w.Close()
	return b.Bytes()
}

// inMemory reports whether the bootstrap's files are kept in the engine's memory, and how much of it they may take: a
// quarter of it, where ten times the packages, which are compressed four times or better, fit in: they are unpacked
// once, and of the base there is a tar as well for a while.
func inMemory(memory int64, spec RootfsSpec) (limit int64, ok bool) {
	var packed int64
	for _, p := range slices.Concat(spec.Required, spec.Base) {
		packed += p.Size
	}
	limit = memory / 4
	return limit, 10*packed <= limit
}

// bootstrapCmd is debootstrap's container without its mounts and streams.
func bootstrapCmd(imaging, engine string, by Emulation, spec RootfsSpec) (*container.Cmd, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	a := archOr(spec.Arch)
	args := []string{"sh", "-c", bootstrapScript, "bootstrap", workDir,
		spec.Suite.Name, a.Name, spec.Suite.Family.Script}
	if spec.Variant == Minbase { // the other is debootstrap's own default, without a name on its command line
		args = append(args, "--variant=minbase")
	}
	if isForeign(a, engine) { // debootstrap's own default is that of its dpkg
		args = append(args, "--arch="+a.Name)
	}
	cmd := rootCmd(imaging, engine, a, by, spec.Epoch, spec.Privileged,
		append(args, spec.Suite.Bootstrap.Options...))
	cmd.Env = append(cmd.Env,
		"ARCH_ALL_SUPPORTED=0", // debootstrap sets this only when it reads a Release file, and complains
		"container=lxc",        // debootstrap tries neither mknod nor mount, and takes the devices that are there
	)
	return cmd, nil
}

// rootCmd is a container in which root works on the tree of an architecture, without its mounts and streams.
func rootCmd(imaging, engine string, a Arch, by Emulation, epoch time.Time, privileged bool,
	args []string) *container.Cmd {

	cmd := &container.Cmd{
		Image: imaging, Args: args, User: "0:0", Hostname: Hostname, Privileged: privileged,
		Env: []string{
			"LC_ALL=C", "TZ=UTC",
			"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10), // useradd writes days of change by it
		},
	}
	for _, c := range BootstrapCaps {
		cmd.Caps = append(cmd.Caps, c.Name)
	}
	if isForeign(a, engine) {
		emulate(cmd, a, by)
	}
	return cmd
}

// foreignDir is where the imaging image has a directory for what emulate.sh takes along.
const foreignDir = "/kimg"

// EmulationCaps are what a container gets beside BootstrapCaps, for emulate.sh and the tracer. The command has none of
// them.
var EmulationCaps = []Capability{
	{"KILL", "the tracer sends signals for others, so as not to be met by kill(-1)"},
	{"SETPCAP", "the command's capabilities are limited to the others"},
	{"SYS_PTRACE", "maintainer scripts run programs as other users, which are traced as well"},
}

// emulate has a container's command run with the programs of an architecture.
func emulate(cmd *container.Cmd, a Arch, by Emulation) {
	var caps []string
	for _, c := range cmd.Caps {
		caps = append(caps, "+"+strings.ToLower(c))
	}
	cmd.Namespaces = true
	cmd.Args = append([]string{"sh", "-c", emulateScript, "emulate", foreignDir, string(by), "/usr/bin/" + a.Emulator,
		foreign.Format(a), strings.Join(caps, ",")}, cmd.Args...)
	for _, c := range EmulationCaps {
		cmd.Caps = append(cmd.Caps, c.Name)
	}
}

// emulationIn puts what emulate.sh takes along into a container that has not started: the probe, and this program,
// where it is one of the engine's architecture, as the tracer.
func (m Maker) emulationIn(ctx context.Context, c container.Container, a Arch) error {
	engine := cmp.Or(m.Engine.Info().Arch, arch.Default.OCI)
	if !isForeign(a, engine) {
		return nil
	}
	err := reading.Pipe(func(w io.Writer) error {
		tw := tar.NewWriter(w)
		code := foreign.Probe(a)
		if err := putFile(tw, "probe", int64(len(code)), bytes.NewReader(code)); err != nil {
			return err
		}
		if runtime.GOOS == "linux" && runtime.GOARCH == engine {
			self, err := os.Open("/proc/self/exe")
			if err != nil {
				return err
			}
			defer self.Close()
			info, err := self.Stat()
			if err != nil {
				return err
			}
			if err := putFile(tw, foreign.Name, info.Size(), self); err != nil {
				return err
			}
		}
		return tw.Close()
	}, func(r io.Reader) error { return c.CopyIn(ctx, foreignDir, r) })
	if err != nil {
		return fmt.Errorf("put what emulates %s into the container: %w", a, err)
	}
	return nil
}

// putFile adds a program to a tar.
func putFile(w *tar.Writer, name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: size}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}
