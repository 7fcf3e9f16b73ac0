package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	guestfiles "github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sshRequest asks for a login to a guest: to one that runs, or to one that is booted for it.
type sshRequest struct {
	runRequest
	fresh       bool // boot one, whatever runs
	relay       bool
	printConfig bool
	shaped      []string // the flags that only a guest of its own obeys
}

func (a *app) ssh() *cobra.Command {
	req := sshRequest{runRequest: runRequest{guest: a.guest()}}
	cmd := &cobra.Command{
		Use:   "ssh [flags] [-- COMMAND [ARG...]]",
		Short: "Log in to the guest by ssh",
		Long: `Log in to a guest of the last build as root: to the one that was started last (by kimg
run, kimg debug or kimg ssh in another terminal), or else to one that is booted for this
login and ends with it. The image must have openssh-server (kimg build --include openssh-server). No ssh
has to be installed on this machine.

With a command, run it in the guest, pass on its output, and exit with its status; if kimg
itself fails, the exit status is then 125. The command gets a terminal when stdin, stdout and
stderr all are one. At the beginning of a line ~. ends the connection.

The keys are made on this machine when they are first needed, kept in kimg's cache for
this out directory alone, and given to each guest as it boots: no image holds them.
The guest's host key is known in advance, and checked. --print-config writes what OpenSSH's clients need to
reach the guest as "kimg": for scp, rsync, sshfs and editors.

What a guest that is booted for the login writes to its disk is discarded at the end,
unless --write or --snapshot is given.`,
		Example: `  kimg ssh
  kimg ssh -- uname -r
  kimg ssh --init sh --memory 2G -- ./test.sh   # without systemd, in a fraction of the time
  kimg ssh --print-config >ssh_config && scp -F ssh_config module.ko kimg:`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := req.read(cmd, args); err != nil {
				return err
			}
			if a.progressMode == "auto" && len(req.command) > 0 && !terminal.Of(a.stderr).Is() {
				a.progressMode = "quiet" // stderr is the command's
			}
			req.quiet = a.progressMode == "quiet"
			err := a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.ssh(cmd.Context(), env, req)
			})
			if req.relay && cmd.Context().Err() != nil {
				return nil // a client ends its ProxyCommand by a signal
			}
			return err
		},
	}
	flags := cmd.Flags()
	req.addFlags(flags)
	req.extras.addCold(flags)
	flags.BoolVar(&req.fresh, "new", false, "boot a guest even if one runs already")
	flags.BoolVar(&req.printConfig, "print-config", false,
		"write a configuration for OpenSSH's clients, and do not log in")
	flags.BoolVar(&req.relay, "relay", false,
		"connect stdin and stdout with the guest's sshd, for another client (a ProxyCommand)")
	return cmd
}

func (req *sshRequest) read(cmd *cobra.Command, args []string) error {
	var err error
	if req.command, err = guestCommand(cmd, args); err != nil {
		return err
	}
	if len(req.command) > 0 && (req.relay || req.printConfig) {
		return usageError{cmd, errors.New("--relay and --print-config run no command")}
	}
	if err := req.find(cmd.Flags(), "."); err != nil {
		return err
	}
	if err := req.extras.parse(req.write); err != nil {
		return err
	}
	if req.extras.network.Mode == vm.NoNet {
		return &spec.InputError{Field: "--net",
			Err: errors.New("a guest without a network cannot be logged in to: want user or tap:INTERFACE")}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "out", "timeout", "new", "relay", "print-config":
		default:
			req.shaped = append(req.shaped, "--"+f.Name)
		}
	})
	return nil
}

type noSSHError struct {
	Image string
	Old   bool // it has an sshd, but was built by a kimg that gave it no keys
}

func (e *noSSHError) Error() string {
	if e.Old {
		return fmt.Sprintf("log in to the guest of %s: it was built by a kimg that gave its sshd no keys", e.Image)
	}
	return fmt.Sprintf("log in to the guest of %s: openssh-server is not in it", e.Image)
}

func (e *noSSHError) Hint() string {
	if e.Old {
		return "build it again with the same flags"
	}
	return "kimg build --include openssh-server, with the flags of the last build, adds it; " +
		"the kernel is not compiled again"
}

// checkSSH is a *noSSHError where the image that the guest boots from, or will, has no sshd that takes kimg's keys.
func (g *guest) checkSSH(e *extras) error {
	if of, err := form.Of(g.out); err == nil && of != form.Ext4 {
		return g.checkSSHPackage(of.File())
	}
	name := filepath.Join(g.out, artifact.Disk)
	if e.snapshot != "" {
		if snapshot := filepath.Join(g.out, vm.SnapshotFile(e.snapshot)); exists(snapshot) {
			name = snapshot
		}
	}
	img, err := ext4.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &vm.MissingArtifactError{Dir: g.out, File: artifact.Disk}
	}
	if err != nil {
		return fmt.Errorf("look for sshd in %s: %w", name, err)
	}
	defer img.Close()
	has := func(file string) bool {
		_, err := img.Lstat(strings.TrimPrefix(file, "/"))
		return err == nil
	}
	if !has("/usr/sbin/sshd") {
		return &noSSHError{Image: name}
	}
	if !has(guestfiles.KeysUnit) {
		return &noSSHError{Image: name, Old: true}
	}
	return nil
}

// checkSSHPackage is checkSSH for forms that kimg does not read: it goes by the lock's packages, where there is a lock.
func (g *guest) checkSSHPackage(file string) error {
	l, err := spec.ReadLock(filepath.Join(g.out, artifact.Lock))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(l.Rootfs.Packages(), func(p spec.Package) bool { return p.Name == "openssh-server" }) {
		return &noSSHError{Image: filepath.Join(g.out, file)}
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// keys are those of an out directory's guests, in the cache: out directories are passed on.
func (g *guest) keys(ctx context.Context, env builder.Env) (*vm.Keys, error) {
	out, err := filepath.Abs(g.out)
	if err != nil {
		return nil, err
	}
	return vm.LoadKeys(ctx, filepath.Join(env.Cache, "ssh", string(units.DigestOf([]byte(out)))))
}

// offerSSH gives a guest keys for a kimg ssh in another terminal, which reports what is in the way.
func (g *guest) offerSSH(ctx context.Context, env builder.Env, e *extras, o *vm.Options) {
	if g.checkSSH(e) == nil {
		o.Keys, _ = g.keys(ctx, env)
	}
}

func sshGuest(ctx context.Context, env builder.Env, req sshRequest) error {
	keys, err := req.keys(ctx, env)
	if err != nil {
		return err
	}
	if req.printConfig {
		return req.writeConfig(keys)
	}
	running, found := vm.RunningGuest{}, false
	if !req.fresh {
		running, found, err = newestSSH(vm.RunningGuests(), req.out)
	}
	if err != nil {
		return err
	}
	if found {
		return req.attach(ctx, env, running, keys)
	}
	if err := req.checkSSH(&req.extras); err != nil {
		return err
	}
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	o.Write, o.Keys = req.write, keys
	req.extras.apply(&o, []string{"sshd"}) // nothing runs on the console
	o.Interrupt = req.interrupts()
	req.keepLater(env, &o, string(vm.ForCommand))
	task := progress.Start(env.Sink, "guest", "boot "+req.out)
	o.Console = task.Log()
	heard := req.watch(&o)
	screen := req.handOver(&o, req.notice())
	return req.login(task, screen, heard.tell, func(l vm.Login) (int, error) { return vm.SSH(ctx, o, l) })
}

// login has the session, and shows the task until the guest's sshd answers. tell gets its error, and has the last word.
func (req *sshRequest) login(
	task *progress.Task, screen *handOver, tell func(error) error, session func(vm.Login) (int, error),
) error {
	connected := false
	status, err := session(vm.Login{Command: req.command, Relay: req.relay, Connected: func() {
		connected = true
		screen.now(func() { task.End(false, nil) })
	}})
	screen.now(func() { task.End(false, err) })
	if connected && err != nil && len(req.command) == 0 && !req.relay {
		fmt.Fprintln(req.stderr) // ends the line that the shell was on
	}
	req.lastWords(err)
	return statusError(status, tell(err))
}

// newestSSH is the guest of an out directory to log in to: preferably one whose sshd has started.
func newestSSH(list []vm.RunningGuest, out string) (found vm.RunningGuest, ok bool, err error) {
	abs, err := filepath.Abs(out)
	if err != nil {
		return found, false, err
	}
	for _, g := range list {
		if g.Out == abs && g.SSH != nil && (!ok || g.Keyed && !found.Keyed) {
			found, ok = g, true
		}
	}
	return found, ok, nil
}

func (req *sshRequest) attach(ctx context.Context, env builder.Env, g vm.RunningGuest, keys *vm.Keys) error {
	if len(req.shaped) > 0 && !req.quiet {
		progress.Say(env.Sink, fmt.Sprintf("guest %s runs already: ignoring %s; use --new to boot another",
			g.Name, strings.Join(req.shaped, ", ")))
	}
	task := progress.Start(env.Sink, "guest", "log in to guest "+g.Name)
	user := req.user()
	user.RunLimit, user.Interrupt = 0, req.interrupts()
	quiet := func(err error) error { return err } // the console is another kimg's
	return req.login(task, &handOver{take: req.takeTerminal}, quiet, func(l vm.Login) (int, error) {
		return vm.SSHTo(ctx, g, keys, user, l)
	})
}

func (req *sshRequest) writeConfig(keys *vm.Keys) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := filepath.Abs(req.out)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(req.stdout, `Host %[1]s
  HostKeyAlias %[1]s
  User root
  IdentityFile %[2]s
  IdentitiesOnly yes
  UserKnownHostsFile %[3]s
  StrictHostKeyChecking yes
  ProxyCommand %[4]s ssh --relay --progress quiet --out %[5]s
`, vm.HostAlias, quoteConfig(keys.UserKeyFile()), quoteConfig(keys.KnownHostsFile()), shellWord(self), shellWord(out))
	return err
}

// quoteConfig quotes a path for ssh_config(5), where % is special.
func quoteConfig(path string) string {
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`
}

// shellWord quotes a word of a ProxyCommand, which a shell reads.
func shellWord(word string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(word) + "'"
}
