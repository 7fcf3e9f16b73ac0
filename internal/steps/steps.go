// Package steps runs repeatable computations and remembers what they made. A Step is known by its ActionID, a hash
// over everything that it reads; a Work is how it is done. Once it has run, its outputs lie in the store and a
// record of them under the ActionID. A Step whose record and outputs are there is not run again.
//
// An ActionID hashes the ActionIDs of the steps before it, not their outputs (cmd/go hashes outputs, which stops a
// rebuild early where an input changed and its output did not). That way a whole Plan can be named, printed and
// compared before anything has run, which is worth more here.
package steps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// ActionID names everything that a step reads, in hexadecimal.
type ActionID string

// Short is enough of an ActionID for users to tell two apart.
func (a ActionID) Short() string { return string(a[:min(12, len(a))]) }

// Fact is one thing that a step reads, by name. Value is hashed whole; Shown is enough to tell two apart.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Shown string `json:"shown,omitempty"` // of Value, for users; empty: Value itself
}

// String is the fact's value for users.
func (f Fact) String() string { return cmp.Or(f.Shown, f.Value) }

// DigestFact is a fact whose value is a digest; name, maybe empty, says of what to users, and is hashed too.
func DigestFact(name string, d units.Digest, what string) Fact {
	return Fact{
		Name:  name,
		Value: strings.TrimSuffix(string(d)+" "+what, " "),
		Shown: strings.TrimSuffix(d.Short()+" "+what, " "),
	}
}

// Step describes a repeatable computation. What it does is a Work's.
type Step struct {
	ID    string  // short and unique in a plan: "kernel"
	Title string  // for users: "compile Linux 6.12.43"
	Reads []Fact  // all that decides the outputs, in a fixed order
	After []*Step // steps whose outputs it reads
}

// Work is how a step is done on this machine.
type Work struct {
	// Run does the work. Results go to out; the task reports to the user.
	Run func(ctx context.Context, in Results, out *Outputs, task *progress.Task) error

	// Ready, where not nil, says whether the result of a step is there that lives outside the store: an image, say.
	Ready func(ctx context.Context) (bool, error)
}

// ActionID hashes the step's description and those of the steps before it.
func (s *Step) ActionID() ActionID {
	h := sha256.New()
	put := func(v string) { fmt.Fprintf(h, "%d:%s\n", len(v), v) }
	put("kimg step 2")
	put(s.ID)
	for _, f := range s.Reads {
		put(f.Name)
		put(f.Value)
	}
	for _, p := range s.After {
		put(string(p.ActionID()))
	}
	return ActionID(hex.EncodeToString(h.Sum(nil)))
}

// Output is one file that a step made.
type Output struct {
	Name   string       `json:"name"`
	Digest units.Digest `json:"sha256"`
	Size   int64        `json:"size"` // bytes
	Mode   fs.FileMode  `json:"mode"` // permission bits
}

// Record is what is remembered of a step that ran.
type Record struct {
	Step    string   `json:"step"`
	Reads   []Fact   `json:"reads"`
	Outputs []Output `json:"outputs"`
	Notes   []string `json:"notes,omitempty"` // how it was done, where that makes no other outputs
}

// OutputID names what a step made.
func (r Record) OutputID() units.Digest {
	b, err := json.Marshal(r.Outputs)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	return units.DigestOf(b)
}

// Find returns the output of that name.
func (r Record) Find(name string) (Output, bool) {
	i := slices.IndexFunc(r.Outputs, func(o Output) bool { return o.Name == name })
	if i < 0 {
		return Output{}, false
	}
	return r.Outputs[i], true
}

// Results are the records of the steps that came before, by their IDs.
type Results map[string]Record

// Outputs collects what a running step makes.
type Outputs struct {
	store *store.Store
	outs  []Output
	notes []string
}

// Note has the step's record say how it was done.
func (o *Outputs) Note(text string) { o.notes = append(o.notes, text) }

// Store is where the outputs lie.
func (o *Outputs) Store() *store.Store { return o.store }

// Add reads r into the store under the output's name.
func (o *Outputs) Add(name string, mode fs.FileMode, r io.Reader) error {
	w, err := o.Create(name, mode)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return w.Commit()
}

// Take moves a file of the store's file system (see store.TempDir) into the store under the output's name.
func (o *Outputs) Take(name string, mode fs.FileMode, file string) error {
	d, n, err := o.store.Take(file)
	if err != nil {
		return err
	}
	o.outs = append(o.outs, Output{name, d, n, mode})
	return nil
}

// Create returns a writer for the output; nothing is there before its Commit.
func (o *Outputs) Create(name string, mode fs.FileMode) (*OutputWriter, error) {
	w, err := o.store.Create()
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	return &OutputWriter{Writer: w, name: name, mode: mode, outs: o}, nil
}

// OutputWriter writes one output.
type OutputWriter struct {
	*store.Writer
	name string
	mode fs.FileMode
	outs *Outputs
}

// Commit puts the output into the store and among the step's outputs.
func (w *OutputWriter) Commit() error {
	d, n, err := w.Writer.Commit()
	if err != nil {
		return fmt.Errorf("store %s: %w", w.name, err)
	}
	w.outs.outs = append(w.outs.outs, Output{w.name, d, n, w.mode})
	return nil
}

// Cache remembers records under a directory, one file an ActionID.
type Cache struct {
	Dir   string
	Store *store.Store
}

func (c *Cache) file(id ActionID) string { return filepath.Join(c.Dir, string(id)+".json") }

// Load returns the record of an action. Whatever is wrong with it makes it a miss, never an error.
func (c *Cache) Load(id ActionID) (Record, bool) {
	b, err := os.ReadFile(c.file(id))
	if err != nil {
		return Record{}, false
	}
	var r Record
	if json.Unmarshal(b, &r) != nil {
		return Record{}, false
	}
	for _, o := range r.Outputs {
		if !c.Store.Has(o.Digest) {
			return Record{}, false
		}
	}
	return r, cache.Use(c.file(id))
}

// Reads returns what an action read, even when its outputs are gone.
func (c *Cache) Reads(id ActionID) ([]Fact, bool) {
	b, err := os.ReadFile(c.file(id))
	var r Record
	if err != nil || json.Unmarshal(b, &r) != nil {
		return nil, false
	}
	return r.Reads, true
}

func (c *Cache) save(id ActionID, r Record) error {
	slices.SortFunc(r.Outputs, func(a, b Output) int { return cmp.Compare(a.Name, b.Name) })
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(c.file(id), append(b, '\n'), 0o644)
}
