package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// instruction is one of a Dockerfile: ARG, COPY or RUN.
type instruction struct {
	name, rest string
	line       int
}

func (i instruction) String() string { return i.name + " " + i.rest }

// recipe is what there is to do for one stage of a Dockerfile.
type recipe struct {
	base   string          // an image
	stages [][]instruction // each has arguments of its own
	used   map[string]bool // the arguments that it asks for
}

// count is how many instructions it has, FROM among them.
func (r *recipe) count() int { return 1 + len(slices.Concat(r.stages...)) }

// errorf is an error of a line of the Dockerfile.
func (i instruction) errorf(format string, args ...any) error {
	return fmt.Errorf("dockerfile line %d: %s", i.line, fmt.Sprintf(format, args...))
}

// A stage is what a FROM begins.
type stage struct {
	name, base string
	steps      []instruction
}

// parseDockerfile reads as much of the format as kimg's own file has; anything else is an error that names it. Source:
// https://docs.docker.com/reference/dockerfile/. target is the name of a stage; empty: the last one.
func parseDockerfile(text, target string, args map[string]string) (*recipe, error) {
	list, err := instructions(text)
	if err != nil {
		return nil, err
	}
	var stages []stage
	r := &recipe{used: map[string]bool{}}
	global := map[string]string{}
	for _, i := range list {
		switch {
		case i.name == "FROM":
			s := stage{}
			f := strings.Fields(i.rest)
			if len(f) == 3 && strings.EqualFold(f[1], "AS") {
				s.name = f[2]
			} else if len(f) != 1 {
				return nil, i.errorf("want FROM IMAGE [AS NAME], not %q", i)
			}
			if s.base, err = expand(i, f[0], global); err != nil {
				return nil, err
			}
			stages = append(stages, s)
		case len(stages) > 0:
			last := &stages[len(stages)-1]
			last.steps = append(last.steps, i)
		case i.name == "ARG":
			r.used[i.declare(args, global)] = true
		default:
			return nil, i.errorf("%s comes before FROM", i.name)
		}
	}
	at := len(stages) - 1
	if target != "" {
		at = slices.IndexFunc(stages, func(s stage) bool { return strings.EqualFold(s.name, target) })
	}
	if at < 0 {
		return nil, fmt.Errorf("the dockerfile has no stage %q", target)
	}
	for at >= 0 {
		s := stages[at]
		r.base, r.stages = s.base, slices.Insert(r.stages, 0, s.steps)
		at = slices.IndexFunc(stages[:at], func(o stage) bool {
			return o.name != "" && strings.EqualFold(o.name, s.base)
		})
	}
	return r, nil
}

// continued is a line that goes on in the next.
var continued = regexp.MustCompile(`\\[ \t]*$`)

// instructions splits a Dockerfile.
func instructions(text string) (list []instruction, err error) {
	var whole strings.Builder
	begun := 0
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if begun == 0 {
			begun = n + 1
		}
		whole.WriteString(continued.ReplaceAllString(line, ""))
		if continued.MatchString(line) {
			continue
		}
		i, err := parseInstruction(whole.String(), begun)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
		whole.Reset()
		begun = 0
	}
	if begun > 0 {
		return nil, instruction{line: begun}.errorf("it goes on after the end")
	}
	if len(list) == 0 {
		return nil, errors.New("the dockerfile is empty")
	}
	return list, nil
}

func parseInstruction(text string, line int) (instruction, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	i := instruction{strings.ToUpper(name), strings.TrimSpace(rest), line}
	if !slices.Contains([]string{"ARG", "COPY", "FROM", "RUN"}, i.name) {
		return i, i.errorf("unknown instruction: %s (the embedded engine knows ARG, COPY, FROM and RUN)", i.name)
	}
	if i.rest == "" || strings.HasPrefix(i.rest, "--") {
		return i, i.errorf("not known by the embedded engine: %s", i)
	}
	return i, nil
}

// declare is ARG: it gives an argument its value, the default one if the caller has none.
func (i instruction) declare(given, to map[string]string) (name string) {
	name, value, hasDefault := strings.Cut(i.rest, "=")
	if v, ok := given[name]; ok {
		to[name] = v
	} else if hasDefault {
		to[name] = value
	}
	return name
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts arguments in the place of $NAME and ${NAME}.
func expand(i instruction, text string, args map[string]string) (string, error) {
	var err error
	text = os.Expand(text, func(name string) string {
		if !identifier.MatchString(name) {
			err = i.errorf("not known by the embedded engine: ${%s}", name)
		}
		return args[name]
	})
	return text, err
}

// argv is what a RUN runs.
func (i instruction) argv() []string {
	var list []string
	if strings.HasPrefix(i.rest, "[") && json.Unmarshal([]byte(i.rest), &list) == nil && len(list) > 0 {
		return list
	}
	return []string{"/bin/sh", "-c", i.rest}
}
