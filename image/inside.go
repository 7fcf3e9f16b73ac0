package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/reading"
)

//go:embed inside.sh
var insideScript string

// command is something that root does in the tree, in a container as the bootstrap's.
type command struct {
	what string         // for users: "run setup.sh"
	line string         // of shell
	file *custom.Script // that it is, in scriptDir, where it is one
}

// scriptDir is where the tree has scripts while they run.
const scriptDir = "tmp/kimg"

// runAll does what is done in the tree: scripts and then units, at once where the units are there before.
func (c *customiser) runAll(ctx context.Context) error {
	scripts, err := c.scripts()
	if err != nil {
		return err
	}
	units, err := c.units()
	switch {
	case err == nil:
		return c.inside(ctx, append(scripts, units...))
	case len(c.want.Run) == 0:
		return err
	}
	if err := c.inside(ctx, scripts); err != nil { // which may make the units
		return err
	}
	if units, err = c.units(); err != nil {
		return err
	}
	return c.inside(ctx, units)
}

// scripts are the commands that make the locale, which scripts may use, and run what the user wants run.
func (c *customiser) scripts() (do []command, err error) {
	if c.want.MakesLocale() {
		do = append(do, command{what: "make the locale " + c.want.Locale, line: "locale-gen"})
	}
	for i, s := range c.want.Run {
		if n := c.at(s.Interpreter()); n == nil || n.typ != tar.TypeReg {
			return nil, fmt.Errorf("run: %s: the guest has no %s, which its first line names: include the package "+
				"that has it", s.Name, s.Interpreter())
		}
		name := fmt.Sprintf("/%s/%d/%s", scriptDir, i, plainName.ReplaceAllString(s.Name, "_"))
		do = append(do, command{what: "run " + s.Name, line: name, file: &s})
	}
	return do, nil
}

// plainName matches what a shell might take for something else than a name.
var plainName = regexp.MustCompile(`[^A-Za-z0-9._+-]`)

// RunError is a command that failed in the tree.
type RunError struct {
	What string // "run setup.sh"
	Code int    // its exit status; 128+n when signal n ended it
}

func (e *RunError) Error() string {
	if e.Code > signalled {
		return fmt.Sprintf("%s: ended by signal %d", e.What, e.Code-signalled)
	}
	return fmt.Sprintf("%s: exit status %d", e.What, e.Code)
}

// signalled is added to the number of the signal that ended a program.
const signalled = 128

// Hint says what is not as it is in a guest that has booted.
func (e *RunError) Hint() string {
	const kill = signalled + 9
	switch e.Code {
	case 126:
		return "a program cannot be run: it is none, or one of another architecture than the engine's machine runs"
	case 127:
		return "a command is not in the tree: include the package that has it (its name is in the last lines above)"
	case kill:
		return "it was killed: by itself, or because the engine's machine has no more memory"
	}
	return "the last lines that it printed are above. It runs in the tree, where there is no network, no /proc, " +
		"no /sys and no systemd that runs"
}

// TooLargeError is a tree that became larger than its image.
type TooLargeError struct{ Size Size }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the tree has become larger than the image of %s", e.Size)
}

// Hint says what helps.
func (e *TooLargeError) Hint() string {
	return "have the scripts remove what the guest does not need, or give it room with --size"
}

// inside does commands in the tree, in a container, and takes the tree that they leave. Of what they made and changed,
// that goes that would go of a bootstrapped tree: logs, caches, identities, and what a boot makes anew.
func (c *customiser) inside(ctx context.Context, do []command) (err error) {
	if len(do) == 0 {
		return nil
	}
	if err := c.owned(); err != nil {
		return &CustomError{fmt.Errorf("%w; %s cannot be done in such a tree", err, whatOf(do))}
	}
	hidden := c.hide()
	for _, d := range do {
		if d.file != nil {
			n := &node{name: strings.TrimPrefix(d.line, "/"), typ: tar.TypeReg, mode: 0o755, mtime: c.epoch}
			n.setContent([]byte(d.file.Text))
			if err := c.put(n); err != nil {
				return err
			}
		}
	}
	var after *tree
	err = reading.Pipe(
		func(w io.Writer) error { return c.contain(ctx, do, w) },
		func(r io.Reader) (err error) { after, err = c.outcome(r, do); return err })
	if err != nil {
		if after != nil {
			err = errors.Join(err, after.close())
		}
		return err
	}
	before := c.tree
	defer before.close()
	c.tree = after
	if err = c.settle(before, hidden); err == nil {
		err = c.owned()
	}
	if err != nil {
		return fmt.Errorf("%s: the tree that is left: %w", whatOf(do), err)
	}
	return nil
}

// owned refuses owners that a container does not have in every engine: what is done in it would not come to the same.
func (c *customiser) owned() error {
	for _, n := range c.sorted() {
		for _, id := range []int{n.uid, n.gid} {
			if id > custom.MaxInside {
				return fmt.Errorf("/%s belongs to %d: containers of some engines have no ids above %d",
					n.name, id, custom.MaxInside)
			}
		}
	}
	return nil
}

// whatOf is what commands do, for users.
func whatOf(do []command) string {
	var all []string
	for _, d := range do {
		all = append(all, d.what)
	}
	return strings.Join(all, ", ")
}

// contain runs the commands. The tree goes in by stdin and comes out by w: see inside.sh.
func (c *customiser) contain(ctx context.Context, do []command, w io.Writer) (err error) {
	args := []string{"sh", "-c", insideScript, "inside", workDir}
	for _, d := range do {
		args = append(args, d.line)
	}
	said := &complaints{w: c.log(), by: c.Emulated}
	cmd := rootCmd(c.Imaging, c.Engine.Info().Arch, archOr(c.spec.Arch), c.Emulation, c.spec.Epoch, c.spec.Privileged,
		args)
	volume, err := container.TempVolume(ctx, c.Engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Engine.RemoveVolume(ctx, volume)) }()
	cmd.Mounts = bootstrapMounts(volume)

	packed, tree := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = packed, w, said
	k, err := c.Engine.Create(ctx, cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Remove(ctx)) }()
	if err := k.CopyIn(ctx, workDir, bytes.NewReader(targetDirs())); err != nil {
		return err
	}
	if err := c.emulationIn(ctx, k, archOr(c.spec.Arch)); err != nil {
		return err
	}
	if err := k.Start(ctx); err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() {
		tree.CloseWithError(c.write(tree))
		close(sent)
	}()
	err = k.Wait()
	packed.CloseWithError(io.ErrClosedPipe)
	<-sent
	var exit *container.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit) && said.noForeign() != "":
		return &ForeignError{archOr(c.spec.Arch), c.Emulation, errors.New(said.noForeign())}
	case errors.As(err, &exit) && exit.Code > signalled: // with all that ran
		return &RunError{whatOf(do), exit.Code}
	case errors.As(err, &exit):
		return fmt.Errorf("work in the tree: %w%s", err, said.first())
	}
	return err
}

// outcome reads what inside.sh writes: a status for each command, and the tree.
func (c *customiser) outcome(r io.Reader, do []command) (*tree, error) {
	tooLarge := &TooLargeError{c.spec.Size}
	if c.spec.Size > 0 {
		r = reading.Bounded(r, int64(c.spec.Size), tooLarge)
	}
	in := bufio.NewReader(r)
	for _, d := range do {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.what, err)
		}
		code, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: its status is %q", d.what, line)
		}
		if code != 0 {
			return nil, &RunError{d.what, code}
		}
	}
	t, err := readTar(in, "")
	switch {
	case errors.As(err, &tooLarge):
		err = tooLarge
	case err != nil:
		err = fmt.Errorf("%s: the tree that is left: %w", whatOf(do), err)
	}
	return t, err
}

// hide takes out of the tree what is below the directories that a boot mounts over: a container has its own.
func (c *customiser) hide() map[string]*node {
	out := map[string]*node{}
	for name, n := range c.nodes {
		for _, dir := range custom.HiddenDirs {
			if name != dir && within(name, dir) {
				out[name] = n
			}
		}
	}
	for name := range out {
		delete(c.nodes, name)
	}
	return out
}

// settle makes of the tree that commands left one that another run would leave, too.
func (c *customiser) settle(before *tree, hidden map[string]*node) error {
	var fault error
	same := func(name string) bool {
		ok, err := c.same(before, name)
		fault = errors.Join(fault, err)
		return ok
	}
	for _, t := range []*tree{before, c.tree} {
		for name := range t.nodes {
			if kimgsOwn(name) && !same(name) {
				return errors.Join(fault, fmt.Errorf("/%s was changed or removed, and is kimg's own, by which it "+
					"speaks to the guest: leave it as it is", name))
			}
		}
	}
	if err := c.scrub(c.epoch, func(name string) bool { return !same(name) }); err != nil {
		return err
	}
	c.hide() // the container's
	for _, dir := range custom.HiddenDirs {
		switch n, old := c.nodes[dir], before.nodes[dir]; {
		case n == nil && old != nil:
			c.nodes[dir] = old
		case n != nil && n.typ != tar.TypeDir:
			return errors.Join(fault, fmt.Errorf("/%s is no longer a directory, and a boot mounts over it: "+
				"leave it as it is", dir))
		}
	}
	maps.Copy(c.nodes, hidden)
	if !same("etc/shadow") {
		if err := c.rewriteAccounts(c.epoch, false); err != nil {
			return errors.Join(fault, err)
		}
	}
	c.clamp(c.epoch)
	return fault
}

// same says whether a name is what it was in another tree, its time aside.
func (t *tree) same(other *tree, name string) (bool, error) {
	a, b := t.nodes[name], other.nodes[name]
	switch {
	case a == nil || b == nil:
		return a == b, nil
	case a.typ != b.typ || a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || a.link != b.link || a.size != b.size:
		return false, nil
	case a.typ != tar.TypeReg:
		return true, nil
	}
	err := sameBytes(t.open(a), other.open(b))
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// open reads a file's bytes.
func (t *tree) open(n *node) io.Reader {
	if n.data != nil {
		return bytes.NewReader(n.data)
	}
	return io.NewSectionReader(t.spool, n.at, n.size)
}
