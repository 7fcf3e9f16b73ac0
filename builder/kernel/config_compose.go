package kernel

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// The bases that kimg knows by name.
const (
	Defconfig = "defconfig" // the tree's own, with its kvm_guest.config and debug information
	VM        = "vm"        // kimg's own small one
)

// Builtin says whether a base is one that kimg knows by name, and no file.
func Builtin(base string) bool { return slices.Contains(Bases(), base) }

// Bases are the base configs that kimg knows by name.
func Bases() []string { return []string{Defconfig, VM} }

var (
	//go:embed config/vm.config
	vmConfig []byte
	//go:embed config/debug.config
	debugConfig []byte
	//go:embed config/same.config
	sameConfig []byte

	// archConfigs are laid over the first two for one architecture: vm.arm64.config.
	//go:embed config/*.*.config
	archConfigs embed.FS
)

// fragment is a fragment of kimg's own.
type fragment struct {
	name string
	text []byte
}

func (f fragment) requests(version dialect) []Request {
	return own(f.name, f.text, version)
}

// ownBase are kimg's own fragments of a base for the architecture: that of all, and what is laid over it.
func (c Config) ownBase() []fragment {
	all := fragment{"vm.config", vmConfig}
	if c.Base == Defconfig {
		all = fragment{"debug.config", debugConfig}
	}
	name := c.Base + "." + c.Arch.Name + ".config"
	if c.Base == Defconfig {
		name = "debug." + c.Arch.Name + ".config"
	}
	text, err := archConfigs.ReadFile("config/" + name)
	if err != nil { // x86, which the first one was written for, has none
		return []fragment{all}
	}
	return []fragment{all, {name, text}}
}

func (c Config) ownRequests(version dialect) (list []Request) {
	for _, f := range c.ownBase() {
		list = append(list, f.requests(version)...)
	}
	return list
}

// Config is what a kernel is configured from.
type Config struct {
	Arch     arch.Arch // what it is for; zero: the default
	Base     string    // Defconfig, VM, or how errors call File
	File     []byte    // a whole .config, where Base is neither of the two
	Requests []Request
}

// Text is everything that the configuration is composed of, kimg's own fragments included, for a hash.
func (c Config) Text() string {
	var b strings.Builder
	b.Write(sameConfig)
	switch c.Base {
	case VM, Defconfig:
		for _, f := range c.ownBase() {
			b.Write(f.text)
		}
	default:
		b.Write(c.File)
	}
	for _, r := range c.Requests {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

func own(name string, text []byte, version dialect) []Request {
	reqs, err := ParseFragment(bytes.NewReader(text), name, arch.Arch{})
	if err != nil {
		panic(err) // a test reads them all
	}
	return translate(version, reqs)
}

// kvmGuest is where a tree keeps the options of a KVM guest; the target that merged it went away after 5.10.
const kvmGuest = "kernel/configs/kvm_guest.config"

// configure composes the configuration with the tree's own kconfig and returns it, proven: an *UnmetError names
// what was asked for and not taken. What was proven before is not composed again.
func (w *worker) configure(ctx context.Context, j Job, task *progress.Task) ([]byte, error) {
	c := j.Config
	version, err := w.dialect(ctx, j.Tree.Version, c)
	if err != nil {
		return nil, err
	}
	key, final, err := w.proven(ctx, j)
	if err != nil {
		return nil, err
	}
	known, requested := final != nil, translate(version, c.Requests)
	if !known {
		if final, requested, err = w.compose(ctx, version, c); err != nil {
			return nil, err
		}
	}
	version.KernelVersion = calledIn(final, version.KernelVersion)
	warnOverruled(task, own("same.config", sameConfig, version), requested)
	cfg := kconfig.ParseConfig(final)
	if list := Unmets(cfg, requested); len(list) > 0 {
		if err := w.explain(ctx, cfg, list); err != nil {
			task.Warn("the reasons could not be read from the tree's Kconfig: " + err.Error())
		}
		return nil, &UnmetError{Version: version.String(), Unmet: list}
	}
	if !known {
		list, err := w.nameless(ctx, final, c.Requests)
		if err != nil {
			task.Warn("whether the tree has all that is turned off is not known: " + err.Error())
		} else if len(list) > 0 {
			return nil, &UnmetError{Version: version.String(), Unmet: list}
		}
		if err := w.keepsFile(ctx, c, version, cfg, requested); err != nil {
			return nil, err
		}
		if err := w.needs(ctx, c, version, cfg); err != nil {
			return nil, err
		}
		if err := w.warnHeld(ctx, own("same.config", sameConfig, version), cfg, requested); err != nil {
			return nil, err
		}
	}
	if err := w.lacks(ctx, j, requested, cfg, known); err != nil {
		return nil, err
	}
	if !known {
		err = w.remember(ctx, key, final)
	}
	return final, err
}

// compose lays the requests, which it returns in this version's names, over the base; it does not check them.
func (w *worker) compose(ctx context.Context, version dialect, c Config) (
	final []byte, requested []Request, err error) {
	base, mine, err := w.base(ctx, version, c, own("same.config", sameConfig, version))
	if err != nil {
		return nil, nil, err
	}
	requested = translate(version, c.Requests)
	final, err = w.lay(ctx, base, mine, requested)
	return final, requested, err
}

func (w *worker) lay(ctx context.Context, base []byte, mine, requested []Request) ([]byte, error) {
	all := slices.Concat(mine, requested)
	if len(all) == 0 {
		return base, nil
	}
	if err := w.write(ctx, newConfig, merge(base, all)); err != nil {
		return nil, err
	}
	return w.kconfig(ctx, "olddefconfig")
}

// base makes the base's .config, and returns what is still to be merged over it.
func (w *worker) base(ctx context.Context, version dialect, c Config, same []Request) (
	config []byte, rest []Request, err error) {
	switch c.Base {
	case VM:
		all := merge(nil, slices.Concat(c.ownRequests(version), same))
		if err := w.write(ctx, workDir+"/base.config", all); err != nil {
			return nil, nil, err
		}
		final, err := w.kconfig(ctx, "KCONFIG_ALLCONFIG="+workDir+"/base.config", "allnoconfig")
		return final, nil, err
	case Defconfig:
		base, err := w.kconfig(ctx, "defconfig")
		if err != nil {
			return nil, nil, err
		}
		reqs, err := w.treeFragments(ctx)
		return base, slices.Concat(reqs, c.ownRequests(version), same), err
	}
	// Its own requests would be lost in a choice without same's turned around.
	return c.File, slices.Concat(renamed(version, c), same), nil
}

// treeFragments are the tree's own fragments for a guest. arm64's defconfig has every machine; one of its fragments
// turns all but the virtual one off, in newer trees.
func (w *worker) treeFragments(ctx context.Context) (all []Request, err error) {
	for _, name := range []string{"arch/" + w.arch.SourceDir + "/configs/virt.config", kvmGuest} {
		text, err := w.read(ctx, srcDir+"/"+name)
		if name != kvmGuest && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of the tree: %w", name, err)
		}
		reqs, err := ParseFragment(bytes.NewReader(text), name, arch.Arch{})
		if err != nil {
			return nil, err
		}
		all = append(all, reqs...)
	}
	return all, nil
}

// kconfig makes a target of kconfig's beside the .config of the last build, whose time decides what make builds.
func (w *worker) kconfig(ctx context.Context, args ...string) ([]byte, error) {
	if err := w.make(ctx, append([]string{"KCONFIG_CONFIG=" + newConfig}, args...)...); err != nil {
		return nil, fmt.Errorf("make %s: %w", args[len(args)-1], err)
	}
	return w.read(ctx, newConfig)
}

func (w *worker) explain(ctx context.Context, final kconfig.Config, list []Unmet) error {
	tree, files, err := w.kconfigTree(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(u Unmet) bool { return tree.Symbols[u.Symbol] == nil }) {
		tree.Elsewhere(files)
	}
	for i, u := range list {
		list[i].Why = tree.Explain(u.Symbol, u.Value, final)
	}
	return nil
}

func (w *worker) kconfigTree(ctx context.Context) (*kconfig.Tree, kconfig.Files, error) {
	files, err := w.kconfigFiles(ctx)
	if err != nil {
		return nil, nil, err
	}
	tree, err := kconfig.Read(files, w.arch.SourceDir, w.arch.Kernel)
	return tree, files, err
}

// warnOverruled warns of requests that make the result differ from build to build.
func warnOverruled(task *progress.Task, same, requested []Request) {
	for _, r := range last(requested) {
		for _, s := range same {
			if r.Symbol == s.Symbol && !sameValue(r.Value, s.Value) {
				task.Warn(fmt.Sprintf("%s (%s): with it, two builds of the same sources may differ", r, r.Origin))
			}
		}
	}
}

// warnHeld warns of what would be off for the sake of the same bits, and is held on by something else: a distribution's
// SECURITY_LOCKDOWN_LSM selects MODULE_SIG.
func (w *worker) warnHeld(ctx context.Context, same []Request, final kconfig.Config, requested []Request) error {
	asked := bySymbol(requested)
	held := slices.DeleteFunc(Unmets(final, same), func(u Unmet) bool {
		return u.Got == "n" || asked.has(u.Symbol)
	})
	if len(held) == 0 {
		return nil
	}
	if err := w.explain(ctx, final, held); err != nil {
		return err
	}
	for _, u := range held {
		w.task.Warn(fmt.Sprintf("%s stays %s: %s: with it, two builds of the same sources may differ",
			u.Symbol, u.Got, u.Why))
	}
	return nil
}

// LackError says that somebody who was asked did not want a kernel that cannot do what kimg does with kernels.
type LackError struct {
	Version string
	Lacks   []needs.Lack
}

func (e *LackError) Error() string {
	return fmt.Sprintf("compile Linux %s: not wanted without what was told above", e.Version)
}

// TellsAll has what make said left out.
func (e *LackError) TellsAll() {}

func (e *LackError) Hint() string { return "build it with " + needs.Way(e.Lacks...) }

// lacks tells what the kernel will not do for kimg. Where it is by a base file, and not by what is asked beside it,
// and somebody can answer, it asks before minutes are spent: wanted says that it was asked before.
func (w *worker) lacks(ctx context.Context, j Job, requested []Request, final kconfig.Config, wanted bool) error {
	list := needs.Lacks(final.Get, needs.On(j.Arch.Or().ConsoleY, needs.With(j.Boot))...)
	if len(list) == 0 {
		return nil
	}
	w.task.Warn(lacksText(list))
	asked := bySymbol(requested)
	byFile := slices.ContainsFunc(list, func(l needs.Lack) bool {
		return !slices.ContainsFunc(slices.Concat(l.Without, l.With), asked.has)
	})
	if wanted || j.Ask == nil || Builtin(j.Config.Base) || !byFile {
		return nil
	}
	yes, err := j.Ask(ctx, fmt.Sprintf("Compile Linux %s like this?", j.Tree.Version))
	if err == nil && !yes {
		err = &LackError{j.Tree.Version.String(), list}
	}
	return err
}

func lacksText(list []needs.Lack) string {
	var b strings.Builder
	b.WriteString("as it is configured, this kernel cannot")
	for _, l := range list {
		fmt.Fprintf(&b, "\n  %s: it is %s", l.What, l.Why())
	}
	return b.String() + "\n  " + needs.Way(list...) + " brings it"
}

// provenConfig keeps the last configuration that was proven, after a line that says what it was composed from.
// Composing takes seconds: most of what a build adds to make after one edited file.
const provenConfig = objDir + "/kimg.proven"

// provenScript prints the state of all that kconfig reads of the source ($1) for an architecture ($3), and then $2.
// Content is not read: an engine's volume has honest change times, and only kimg writes there.
const provenScript = `cd "$1" && find . -path ./` + objName + ` -prune -o -type f \( \
-name 'Kconfig*' -o -name '*.config' -o -name '*defconfig' \
-o -path './scripts/*' -o -path './Makefile' -o -path "./arch/$3/Makefile*" \) -printf '%P %s %C@ %i\n' |
sha256sum && { cat "$2" 2>/dev/null || true; }`

// proven returns the key of a configuration, and its .config where it was proven before; nil: it was not.
func (w *worker) proven(ctx context.Context, j Job) (key string, config []byte, err error) {
	out, err := w.output(ctx, nil, 64<<20, "sh", "-c", provenScript, "sh", srcDir, provenConfig, w.arch.SourceDir)
	if err != nil {
		return "", nil, fmt.Errorf("look at the last configuration: %w", err)
	}
	tree, last, _ := strings.Cut(out, "\n")
	key = provenKey(j, tree)
	if text, ok := strings.CutPrefix(last, key+"\n"); ok {
		return key, []byte(text), nil
	}
	return key, nil, nil
}

func provenKey(j Job, tree string) string {
	all := append(makeVars(j), tree, j.ImageID, j.Tree.Version.String(), j.Config.Base, j.Config.Text())
	return "kimg 1 " + string(units.DigestOf([]byte(strings.Join(all, "\x00"))))
}

func (w *worker) remember(ctx context.Context, key string, config []byte) error {
	return w.run(ctx, strings.NewReader(key+"\n"+string(config)), nil,
		"sh", "-c", `cat > "$1.new" && mv "$1.new" "$1"`, "sh", provenConfig)
}
