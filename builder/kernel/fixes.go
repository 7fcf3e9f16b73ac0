package kernel

// Fix is a small patch of kimg's own that cures a tree which its toolchain does
// not compile.
type Fix struct {
	Name   string
	What   string // what it changes
	Why    string // the symptom, with what brings it about
	Commit string // mainline's, that did the same or better
	Needs  []Needle
}

// Needle is a text of one line that a tree must have in a file for a fix to be
// needed: a late stable release may have the real one.
type Needle struct{ File, Text string }

// Line is the fix in one line.
func (f *Fix) Line() string { return f.Name + ": " + f.What + ": " + f.Why + " (" + f.Commit + ")" }
