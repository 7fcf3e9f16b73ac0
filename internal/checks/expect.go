package checks

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Expectation is a place that the innermost frame must be at, or a function that any frame must be of.
type Expectation struct {
	File     string // FILE:LINE
	Line     int
	Function string // else
}

// A function's name is C's, with what the compiler may add to it; a file's is one of a kernel's tree.
var (
	functionRE = regexp.MustCompile(`^[A-Za-z_][\w.$]*$`)
	placeRE    = regexp.MustCompile(`^([\w./+-]+):(\d{1,9})$`)
)

// ParseExpectation reads FILE:LINE or a function's name.
func ParseExpectation(text string) (Expectation, error) {
	if m := placeRE.FindStringSubmatch(text); m != nil {
		line, err := strconv.Atoi(m[2])
		return Expectation{File: strings.TrimPrefix(m[1], "./"), Line: line}, err
	}
	if functionRE.MatchString(text) {
		return Expectation{Function: text}, nil
	}
	return Expectation{}, fmt.Errorf("expect %q: want FILE:LINE, or a function of the backtrace", text)
}

// String is what ParseExpectation reads.
func (e Expectation) String() string {
	if e.Function != "" {
		return e.Function
	}
	return fmt.Sprintf("%s:%d", e.File, e.Line)
}

// MarshalText has reports show it as it was written.
func (e Expectation) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// maxListed is how many frames are named where none is the one that was expected.
const maxListed = 12

// unmet says what was there instead; empty where the expectation is met.
func (e Expectation) unmet(frames []Frame) string {
	if e.Function == "" {
		var top Frame
		if len(frames) > 0 {
			top = frames[0]
		}
		if top.Line == e.Line && sameFile(top.File, e.File) {
			return ""
		}
		return fmt.Sprintf("stopped %s, not at %s", top, e)
	}
	var names []string
	for _, f := range frames {
		if sameFunction(f.Function, e.Function) {
			return ""
		}
		names = append(names, f.name())
	}
	if more := len(names) - maxListed; more > 0 {
		names = append(names[:maxListed], fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("no %s in the backtrace: %s", e.Function, strings.Join(names, ", "))
}

// sameFile says whether want names the file, whole or from a directory on: open.c is fs/open.c.
func sameFile(file, want string) bool {
	return file == want || strings.HasSuffix(file, "/"+want)
}

// sameFunction takes a compiler's copy (foo.isra.0, foo.part.1, foo.cold) for the function itself.
func sameFunction(name, want string) bool {
	base, _, _ := strings.Cut(name, ".")
	return name == want || base == want
}
