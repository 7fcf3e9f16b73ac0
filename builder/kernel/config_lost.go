package kernel

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/units"
)

// taker is who gave up a line of a base file.
type taker int

const (
	byNobody   taker = iota // it could be had: the file does not hold together
	byKimg                  // same.config, so that two builds are the same
	byRequest               // what was asked for beside the file
	byKernel                // the tree has no such symbol, or no way to turn it on
	byCompiler              // a test of the compiler
)

// loss is a line of a base file that did not survive.
type loss struct {
	Unmet
	by   taker
	of   string // byKimg, byRequest: the symbol of theirs that it hangs on; empty: not known
	gone bool   // byKernel: there is no such symbol
}

// losses are the lines of a user's own base file that did not survive. What a later request changes is none, nor is
// what a tree sets by itself, such as the compiler's version. Who took a line is found out by asking kconfig again:
// for the file alone, and for the file with kimg's own requests.
func (w *worker) losses(ctx context.Context, c Config, version dialect, final kconfig.Config,
	requested []Request) ([]loss, error) {
	if Builtin(c.Base) {
		return nil, nil
	}
	same := own("same.config", sameConfig, version)
	asked, kimgs := bySymbol(requested), bySymbol(same)
	reqs := slices.DeleteFunc(c.fileRequests(version), func(r Request) bool { return asked[r.Symbol].Symbol != "" })
	list := Unmets(final, reqs)
	if len(list) == 0 {
		return nil, nil
	}
	tree, files, err := w.kconfigTree(ctx)
	if err != nil {
		return nil, err
	}
	tree.Elsewhere(files)
	list = slices.DeleteFunc(list, func(u Unmet) bool {
		return tree.Symbols[u.Symbol] != nil && !tree.Prompted(u.Symbol) || u.Value == "m" && u.Got == "y"
	})
	var alone, withKimg kconfig.Config
	if slices.ContainsFunc(list, func(u Unmet) bool { return tree.Symbols[u.Symbol] != nil }) {
		if alone, err = w.relaid(ctx, c.File, renamed(version, c)); err != nil {
			return nil, err
		}
		if withKimg, err = w.relaid(ctx, c.File, slices.Concat(renamed(version, c), same)); err != nil {
			return nil, err
		}
	}
	var out []loss
	for _, u := range list {
		met := func(c kconfig.Config) bool { return sameValue(u.Value, c.Get(u.Symbol)) }
		u.Why = tree.Explain(u.Symbol, u.Value, final)
		l := loss{Unmet: u}
		switch {
		case tree.Symbols[u.Symbol] == nil:
			l.by, l.gone = byKernel, true
		case kimgs[u.Symbol].Symbol != "":
			l.by, l.of = byKimg, u.Symbol
		case met(withKimg):
			l.by, l.of = byRequest, tree.Beneath(u.Symbol, asked.has)
		case met(alone):
			l.by, l.of = byKimg, tree.Beneath(u.Symbol, kimgs.has)
		default:
			l.by = map[kconfig.Cause]taker{kconfig.Kernel: byKernel, kconfig.Compiler: byCompiler}[tree.Cause(
				u.Symbol, u.Value, alone)]
		}
		out = append(out, l)
	}
	return out, nil
}

type requestsOf map[string]Request

func bySymbol(reqs []Request) requestsOf {
	m := requestsOf{}
	for _, r := range reqs {
		m[r.Symbol] = r
	}
	return m
}

func (m requestsOf) has(symbol string) bool { return m[symbol].Symbol != "" }

// relaid is what kconfig makes of a .config and requests, even where there are none.
func (w *worker) relaid(ctx context.Context, text []byte, reqs []Request) (kconfig.Config, error) {
	if err := w.write(ctx, newConfig, merge(text, reqs)); err != nil {
		return nil, err
	}
	final, err := w.kconfig(ctx, "olddefconfig")
	return kconfig.ParseConfig(final), err
}

// keepsFile says what of the user's own base file was given up, and by whom. Lines that could be had are refused
// where this very version wrote the file, and its symbols are the tree's: then it was changed, or put together by
// hand. What another version wrote, or a patched one, is taken as make olddefconfig takes it.
func (w *worker) keepsFile(ctx context.Context, c Config, version dialect, final kconfig.Config,
	requested []Request) error {
	list, err := w.losses(ctx, c, version, final, requested)
	if err != nil {
		w.task.Warn("whether all of " + c.Base + " survived is not known: " + err.Error())
		return ctx.Err()
	}
	if len(list) == 0 {
		return nil
	}
	if ofThisVersion(c.File, version.KernelVersion) && !slices.ContainsFunc(list, func(l loss) bool { return l.gone }) {
		var unmet []Unmet
		for _, l := range list {
			if l.by == byNobody {
				unmet = append(unmet, l.Unmet)
			}
		}
		if len(unmet) > 0 {
			return &UnmetError{Version: version.String(), Unmet: unmet}
		}
	}
	w.task.Warn(lostWarning(c, version, list, requested))
	return nil
}

// ofThisVersion says whether a .config was made for the tree's very version, by what its kconfig heads it with. Who
// writes one by hand, and make savedefconfig, write no head: then its symbols tell.
func ofThisVersion(file []byte, v units.KernelVersion) bool {
	m := writtenBy.FindSubmatch(file)
	if m == nil {
		return true
	}
	w, err := units.ParseKernelVersion(string(m[2]))
	return err == nil && w == v
}

// lostWarning is one list of all that was given up, by who did.
func lostWarning(c Config, version dialect, list []loss, requested []Request) string {
	var b strings.Builder
	b.WriteString(c.Base)
	if m := writtenBy.FindSubmatch(c.File); m != nil && !ofThisVersion(c.File, version.KernelVersion) {
		fmt.Fprintf(&b, ", written by Linux %s,", m[2])
	}
	fmt.Fprintf(&b, " asks for %s not taken in Linux %s:", options(len(list)), version)
	asked, why := bySymbol(requested), sameReasons()
	told := 0
	for _, g := range fewest(groups(list)) {
		b.WriteString("\n  ")
		told += min(len(g), shownOf(g[0].by))
		switch first := g[0]; {
		case first.by == byKimg && first.of == "":
			fmt.Fprintf(&b, "%s: by kimg, so that two builds are the same", names(g))
		case first.by == byKimg && kimgFile(first):
			fmt.Fprintf(&b, "%s: by kimg: %s; --set %s=FILE names one that is", names(g), why[first.of], first.of)
		case first.by == byKimg:
			fmt.Fprintf(&b, "%s: by kimg, so that two builds are the same (%s: %s); --set %s=y to have it", names(g),
				first.of, why[first.of], first.of)
		case first.by == byRequest && first.of == "":
			fmt.Fprintf(&b, "%s: by what was asked for beside the file", names(g))
		case first.by == byRequest:
			fmt.Fprintf(&b, "%s: by %s (%s)", names(g), asked[first.of], asked[first.of].Origin)
		case first.gone:
			fmt.Fprintf(&b, "%s: by the kernel: renamed or gone", names(g))
		case first.by == byKernel, first.by == byNobody: // another version of it has other dependencies
			fmt.Fprintf(&b, "%s: by the kernel: %s", names(g), first.Why)
		case first.by == byCompiler:
			fmt.Fprintf(&b, "%s: by a test of the compiler, it seems", names(g))
		}
	}
	if told < len(list) {
		fmt.Fprintf(&b, "\n  and %d more: kimg config --diff lists them all", len(list)-told)
	}
	return b.String()
}

func options(n int) string {
	if n == 1 {
		return "1 option that is"
	}
	return fmt.Sprintf("%d options that are", n)
}

// shown and shownGone are how many of a group are named.
const (
	shown     = 8
	shownGone = 20

	// shownReasons is how many of the reasons are told that are the tree's, or nobody's: what another distribution
	// has for its own machines has hundreds.
	shownReasons = 5
)

// fewest leaves out of the reasons that are the tree's, or nobody's, all but those of the most options.
func fewest(all [][]loss) (some [][]loss) {
	n := map[taker]int{}
	for _, g := range all {
		if by := g[0].by; (by == byNobody || by == byKernel) && !g[0].gone {
			if n[by]++; n[by] > shownReasons {
				continue
			}
		}
		some = append(some, g)
	}
	return some
}

func shownOf(by taker) int {
	if by == byKernel {
		return shownGone
	}
	return shown
}

// groups puts together what has the same taker and reason, the gravest first.
func groups(list []loss) [][]loss {
	key := func(l loss) string {
		switch {
		case l.by == byKimg, l.by == byRequest:
			return l.of
		case l.by == byCompiler, l.gone:
			return ""
		}
		return l.Why
	}
	var out [][]loss
	for _, l := range list {
		i := slices.IndexFunc(out, func(g []loss) bool {
			return g[0].by == l.by && g[0].gone == l.gone && key(g[0]) == key(l)
		})
		if i < 0 {
			out = append(out, nil)
			i = len(out) - 1
		}
		out[i] = append(out[i], l)
	}
	for _, g := range out { // what the rest hangs on comes first
		slices.SortStableFunc(g, func(a, b loss) int {
			return cmp.Compare(rank(a.Symbol != a.of), rank(b.Symbol != b.of))
		})
	}
	slices.SortStableFunc(out, func(a, b []loss) int {
		return cmp.Or(cmp.Compare(a[0].by, b[0].by), cmp.Compare(rank(a[0].gone), rank(b[0].gone)), len(b)-len(a))
	})
	return out
}

func rank(later bool) int {
	if later {
		return 1
	}
	return 0
}

// names lists a group: "MODULE_SIG=y, MODULE_SIG_SHA512=y and 3 more".
func names(g []loss) string {
	var words []string
	for i, l := range g {
		if i == shownOf(l.by) {
			return strings.Join(words, ", ") + fmt.Sprintf(" and %d like them", len(g)-i)
		}
		word := l.String()
		if _, meant, ok := strings.Cut(l.Why, "(did you mean "); ok && l.gone {
			word += " (did you mean " + meant
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// kimgFile reports whether kimg took the name of a file.
func kimgFile(l loss) bool { return strings.HasPrefix(l.Value, `"`) && l.of == l.Symbol }

// sameReasons are why kimg asks for what is in same.config: the first sentence of the comment over it there.
func sameReasons() map[string]string {
	why, text, symbols := map[string]string{}, "", true
	for line := range bytes.Lines(sameConfig) {
		line := strings.TrimSpace(string(line))
		sym, _ := kconfig.ParseLine(line)
		switch {
		case sym != "":
			first, _, _ := strings.Cut(text+" ", ". ")
			why[sym], symbols = strings.ToLower(first[:1])+first[1:], true
		case line == "":
			symbols = true
		case symbols: // another comment begins
			text, symbols = strings.TrimSpace(strings.TrimPrefix(line, "#")), false
		default:
			text += " " + strings.TrimSpace(strings.TrimPrefix(line, "#"))
		}
	}
	return why
}
