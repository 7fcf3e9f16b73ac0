package why

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/splat"
)

// suspect is memory that a report names.
type suspect struct {
	Address uint64
	Symbol  string // instead of an address: a global object, as "lock+0x8"
	Size    int
	What    string // such as prev->next; empty: the report has no name for it
}

// In a list_head next comes first.
const prevOffset = 8

// listREs are what lib/list_debug.c says of which list_head, and of which member of it.
var listREs = []struct {
	re     *regexp.Regexp
	offset uint64
	what   string
}{
	{regexp.MustCompile(`prev->next should be .*\(prev=([0-9a-f]+)\)`), 0, "prev->next"},
	{regexp.MustCompile(`next->prev should be .*\(next=([0-9a-f]+)\)`), prevOffset, "next->prev"},
	{regexp.MustCompile(`corruption[,.] ([0-9a-f]+)->next is `), 0, "the entry's next"},
	{regexp.MustCompile(`corruption[,.] ([0-9a-f]+)->prev is `), prevOffset, "the entry's prev"},
	{regexp.MustCompile(`list_add double add: new=([0-9a-f]+),`), 0, "the entry's next"},
}

var (
	accessRE = regexp.MustCompile(`(?:[Rr]ead|[Ww]rite|[Ff]ree) (?:of size (\d+) )?at (?:addr )?(?:0x)?([0-9a-f]{16})`)
	freeRE   = regexp.MustCompile(`^Free of addr ([0-9a-f]{16})`)
	raceRE   = regexp.MustCompile(`(?:read|write).* to 0x([0-9a-f]{16}) of (\d+) bytes`)
	rangeRE  = regexp.MustCompile(`^(?:INFO: )?0x([0-9a-f]{16})-0x[0-9a-f]{16}\b`)
	lockRE   = regexp.MustCompile(`^ lock: (?:0x)?([\w.]+(?:\+0x[0-9a-f]+)?)(?:/0x[0-9a-f]+)?,`)
	objectRE = regexp.MustCompile(`belongs to the object at ([0-9a-f]{16})`)
	faultRE  = regexp.MustCompile(`(?:address:?|dereference at|request at) (?:0x)?([0-9a-f]{8,16})\b`)
)

// suspects is the memory that a report says was wrong.
func suspects(r *splat.Report) []suspect {
	for _, line := range r.Text {
		switch r.Kind {
		case splat.List:
			for _, l := range listREs {
				if m := l.re.FindStringSubmatch(line); m != nil {
					return []suspect{{Address: hexadecimal(m[1]) + l.offset, Size: 8, What: l.what}}
				}
			}
		case splat.KASAN, splat.KFENCE, splat.KMSAN:
			if m := accessRE.FindStringSubmatch(line); m != nil {
				return []suspect{{Address: hexadecimal(m[2]), Size: power(m[1])}}
			}
		case splat.KCSAN:
			if m := raceRE.FindStringSubmatch(line); m != nil {
				return []suspect{{Address: hexadecimal(m[1]), Size: power(m[2])}}
			}
		case splat.Slab:
			if m := rangeRE.FindStringSubmatch(line); m != nil {
				return []suspect{{Address: hexadecimal(m[1]), Size: 1, What: "the first byte that is wrong"}}
			}
		case splat.Spinlock:
			if m := lockRE.FindStringSubmatch(line); m != nil {
				s := suspect{Size: 4, What: "the lock"}
				if s.Address = hexadecimal(m[1]); !isKernel(s.Address) {
					s.Address, s.Symbol = 0, m[1]
				}
				return []suspect{s}
			}
		}
	}
	return nil
}

// object is where the object is that a report is about; 0: it does not say.
func object(r *splat.Report) uint64 {
	for _, line := range r.Text {
		for _, re := range []*regexp.Regexp{objectRE, freeRE} {
			if m := re.FindStringSubmatch(line); m != nil {
				return hexadecimal(m[1])
			}
		}
	}
	return 0
}

// fault is the address that could not be reached; false: the report names none.
func fault(r *splat.Report) (uint64, bool) {
	for _, line := range r.Text {
		if m := faultRE.FindStringSubmatch(line); m != nil {
			return hexadecimal(m[1]), true
		}
	}
	return 0, false
}

// stacks are those of the report where its object was freed, and where it was allocated.
func stacks(r *splat.Report) (freed, allocated *splat.Trace) {
	for i, t := range r.Traces {
		switch name := strings.ToLower(t.Name); {
		case strings.HasPrefix(name, "freed") && freed == nil:
			freed = &r.Traces[i]
		case strings.HasPrefix(name, "allocated") && allocated == nil:
			allocated = &r.Traces[i]
		}
	}
	return freed, allocated
}

// lock is where a report says that one was taken.
type lock struct {
	name  string
	frame splat.Frame // it is to return there
}

// heldRE matches a lock as lockdep prints one that is held, or is to be.
var heldRE = regexp.MustCompile(`\((\S+)\)\{\S+\}(?:-\{\S+\})?, at: ([A-Za-z_][\w.$]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)`)

// chainRE matches the name of a stack in which lockdep saw a lock being taken before.
var chainRE = regexp.MustCompile(`^-> #[1-9]\d* \((\S+)\)\{`)

// taken are the places where a report of lockdep says that locks were taken, but for the one that it is about: what is
// held, and what was done before in another order or context.
func taken(r *splat.Report) (list []lock) {
	about := noticed(r)
	add := func(name string, f splat.Frame) {
		at := func(l lock) bool { return l.frame.Function == f.Function && l.frame.Offset == f.Offset }
		if about != nil && at(lock{frame: *about}) || slices.ContainsFunc(list, at) {
			return
		}
		f.Return = true
		list = append(list, lock{name, f})
	}
	for _, line := range r.Text {
		if m := heldRE.FindStringSubmatch(line); m != nil && !splat.Tells(m[2]) {
			add(m[1], splat.Frame{Function: m[2], Offset: hexadecimal(m[3]), Size: hexadecimal(m[4])})
		}
	}
	for i, t := range r.Traces {
		name := ""
		if m := chainRE.FindStringSubmatch(t.Name); m != nil {
			name = m[1]
		} else if strings.HasSuffix(t.Name, " state was registered at") || strings.HasPrefix(t.Name, "which became ") {
			name = "the lock"
		}
		if f := caller(&r.Traces[i]); f != nil && name != "" {
			add(name, *f)
		}
	}
	return list
}

// caller is the frame of a stack that called what noticed, allocated or freed; nil: there is none.
func caller(t *splat.Trace) *splat.Frame {
	for i, f := range t.Frames {
		if !f.Unreliable && !f.Tells() {
			return &t.Frames[i]
		}
	}
	return nil
}

// noticed is the frame of a report's own stack that it is about; nil: there is none.
func noticed(r *splat.Report) *splat.Frame {
	for i, t := range r.Traces {
		if t.Name != "" {
			continue
		}
		for j, f := range t.Frames {
			if !f.Unreliable && f.Return && splat.BaseName(f.Function) == r.Function {
				return &r.Traces[i].Frames[j]
			}
		}
		return caller(&r.Traces[i])
	}
	return nil
}

// hexadecimal reads an address; 0 where it is none.
func hexadecimal(text string) uint64 {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// power is the most bytes of a size that can be watched at a time.
func power(size string) int {
	n, _ := strconv.Atoi(size)
	for _, p := range []int{8, 4, 2} {
		if n >= p {
			return p
		}
	}
	return 1
}
