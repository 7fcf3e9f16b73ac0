package addr2line

import (
	"cmp"
	"debug/dwarf"
	"errors"
	"io"
	"path"
	"slices"
	"sort"
	"strings"
)

// maxDepth bounds how deep functions are inlined, and how long a chain of origins is: a file may lie.
const maxDepth = 200

// unit is a compile unit of which something was asked.
type unit struct {
	f     *File
	entry *dwarf.Entry
	files []*dwarf.LineFile
	lines []row
}

// row is from where on the instructions are a line's.
type row struct {
	address uint64
	file    string
	line    int
	end     bool // nothing is known from here on
}

// unit reads the line table of a compile unit.
func (f *File) unit(at dwarf.Offset) (*unit, error) {
	if u := f.units[at]; u != nil {
		return u, nil
	}
	r := f.data.Reader()
	r.Seek(at)
	e, err := r.Next()
	if err != nil {
		return nil, err
	}
	u := &unit{f: f, entry: e}
	f.units[at] = u
	lines, err := f.data.LineReader(e)
	if err != nil || lines == nil {
		return u, err
	}
	var e1 dwarf.LineEntry
	for {
		if err := lines.Next(&e1); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		r := row{address: e1.Address, line: e1.Line, end: e1.EndSequence}
		if e1.File != nil {
			r.file = e1.File.Name
		}
		u.lines = append(u.lines, r)
	}
	u.files = lines.Files()
	// Of rows at one address the last counts, but an end counts before what begins there.
	slices.SortStableFunc(u.lines, func(a, b row) int {
		if a.address != b.address || a.end == b.end {
			return cmp.Compare(a.address, b.address)
		} else if a.end {
			return -1
		}
		return 1
	})
	return u, nil
}

// places are those of an address in the unit.
func (u *unit) places(address uint64) ([]Place, error) {
	i := sort.Search(len(u.lines), func(i int) bool { return u.lines[i].address > address }) - 1
	var here Place
	if i >= 0 && !u.lines[i].end {
		here = Place{File: u.file(u.lines[i].file), Line: u.lines[i].line}
	}
	chain, err := u.chain(address)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		if here.Line == 0 {
			return nil, nil
		}
		return []Place{here}, nil
	}
	var places []Place
	for n := len(chain) - 1; n >= 0; n-- {
		e := chain[n]
		here.Function = u.name(e)
		places = append(places, here)
		file, _ := e.Val(dwarf.AttrCallFile).(int64)
		line, _ := e.Val(dwarf.AttrCallLine).(int64)
		here = Place{Line: int(line)}
		if file > 0 && int(file) < len(u.files) && u.files[file] != nil {
			here.File = u.file(u.files[file].Name)
		}
	}
	return places, nil
}

// chain is the function that an address is in, and after it those that were inlined into each other there.
func (u *unit) chain(address uint64) ([]*dwarf.Entry, error) {
	r := u.f.data.Reader()
	r.Seek(u.entry.Offset)
	if e, err := r.Next(); err != nil || e == nil || !e.Children {
		return nil, err
	}
	var chain []*dwarf.Entry
	for depth := 1; depth > 0; {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		switch e.Tag {
		case 0: // the end of the children of the last one that was gone into
			if depth--; len(chain) > 0 {
				return chain, nil
			}
			continue
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine, dwarf.TagLexDwarfBlock:
			ranges, err := u.f.data.Ranges(e)
			if err != nil {
				return nil, err
			}
			in := slices.ContainsFunc(ranges, func(r [2]uint64) bool { return r[0] <= address && address < r[1] })
			if in {
				if e.Tag != dwarf.TagLexDwarfBlock {
					chain = append(chain, e)
				}
				if len(chain) > maxDepth || !e.Children {
					return chain, nil
				}
				depth++
				continue
			}
		}
		if e.Children {
			r.SkipChildren()
		}
	}
	return chain, nil
}

// name is a function's, which may be at another place, where it is declared or was not inlined.
func (u *unit) name(e *dwarf.Entry) string {
	for range maxDepth {
		if name, ok := e.Val(dwarf.AttrName).(string); ok {
			return name
		}
		at, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if at, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				break
			}
		}
		r := u.f.data.Reader()
		r.Seek(at)
		next, err := r.Next()
		if err != nil || next == nil {
			break
		}
		e = next
	}
	return ""
}

// file is a name in the kernel's tree: without the directory that it was compiled in.
func (u *unit) file(name string) string {
	name = path.Clean(name)
	for _, root := range u.f.roots {
		if rest, ok := strings.CutPrefix(name, root); ok {
			return rest
		}
	}
	return strings.TrimPrefix(name, "./")
}
