package checks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/yamlfile"
	"go.yaml.in/yaml/v3"
)

// Policy says what becomes of a check whose kernel complained.
type Policy string

// The policies.
const (
	Fail  Policy = "fail"
	Warn  Policy = "warn"  // it is told
	Allow Policy = "allow" // it is in the JSON report
)

// Policies are all of them.
var Policies = []string{string(Fail), string(Warn), string(Allow)}

// ParsePolicy reads a Policy.
func ParsePolicy(text string) (Policy, error) {
	if slices.Contains(Policies, text) {
		return Policy(text), nil
	}
	return "", fmt.Errorf("%q: want fail, warn or allow", text)
}

// Allowed is a complaint that is known, and why it does not count.
type Allowed struct {
	Kind     splat.Kind // empty: any
	Function string     // empty: any
	Reason   string
}

func (a Allowed) allows(r *splat.Report) bool {
	return (a.Kind == "" || a.Kind == r.Kind) && (a.Function == "" || sameFunction(r.Function, a.Function))
}

// Splat is a complaint of the kernel's, and whether it counts.
type Splat struct {
	*splat.Report
	Allowed string `json:"allowed,omitempty"` // the reason why it does not count; empty: it does
}

// weigh says which of the reports count.
func (c *Check) weigh(reports []*splat.Report) (list []Splat) {
	for _, r := range reports {
		s := Splat{Report: r}
		if i := slices.IndexFunc(c.Allow, func(a Allowed) bool { return a.allows(r) }); i >= 0 {
			s.Allowed = c.Allow[i].Reason
		}
		list = append(list, s)
	}
	return list
}

// told are the lines of what counts and is to be told.
func (o *Outcome) told() (lines []string) {
	for _, s := range o.Splats {
		if s.Allowed == "" && o.splats != Allow {
			lines = append(lines, s.Lines()...)
		}
	}
	return lines
}

func (r *reader) policy(n *yaml.Node) Policy {
	text := r.Text("splats", n)
	p, err := ParsePolicy(text)
	if text != "" && err != nil {
		r.Wrong(n, "splats: %w", err)
	}
	return p
}

func (r *reader) allowed(n *yaml.Node) (list []Allowed) {
	for _, item := range r.List(n) {
		keys := r.Mapping(item, "what is allowed", []string{"kind", "function", "reason"})
		if keys == nil {
			continue
		}
		var a Allowed
		if n := keys["kind"]; n != nil {
			a.Kind = splat.Kind(r.Text("kind", n))
			if a.Kind != "" && !slices.Contains(splat.Kinds, a.Kind) {
				names := make([]string, len(splat.Kinds))
				for i, k := range splat.Kinds {
					names[i] = string(k)
				}
				r.Wrong(n, "there is no kind %q%s", a.Kind, yamlfile.Suggest(string(a.Kind), names))
			}
		}
		if n := keys["function"]; n != nil {
			a.Function = r.Text("function", n)
			if a.Function != "" && !functionRE.MatchString(a.Function) {
				r.Wrong(n, "%q is not a function's name", a.Function)
			}
		}
		if n := keys["reason"]; n != nil {
			a.Reason = strings.TrimSpace(r.Text("reason", n))
		}
		switch {
		case keys["kind"] == nil && keys["function"] == nil:
			r.Wrong(item, "allow: want kind, function or both: splats: allow allows everything")
		case keys["reason"] == nil:
			r.Wrong(item, "allow: want a reason")
		}
		list = append(list, a)
	}
	return list
}
