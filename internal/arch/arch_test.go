package arch

import (
	"debug/elf"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for _, a := range All {
		got, err := Parse(a.Name)
		if err != nil || got != a {
			t.Errorf("Parse(%q) = %v, %v", a.Name, got, err)
		}
	}
	for _, name := range []string{"", "AMD64", "x86_64"} {
		if _, err := Parse(name); err == nil {
			t.Errorf("Parse(%q) succeeded", name)
		}
	}
}

// A row that lacks a word would reach a command line as an empty argument.
func TestRowsAreWhole(t *testing.T) {
	empty := []string{"Start", "Firmware", "Abs64", "Abs32", "KVMMachine", "KVMCPU", "Recorded"}
	for _, a := range All {
		v := reflect.ValueOf(a)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Field(i).IsZero() && !slices.Contains(empty, name) {
				t.Errorf("%s: %s is empty", a.Name, name)
			}
		}
	}
}

// What is recorded needs a port, and the kernel's driver of it.
func TestRecorded(t *testing.T) {
	for _, a := range All {
		r := a.Recorded
		if (r.Port == "") != (r.Driver == "") || r.Port == "" && r != (Recorded{}) || r.Port == a.Console {
			t.Errorf("%s: %+v", a.Name, r)
		}
	}
}

func TestOfELF(t *testing.T) {
	for _, a := range All {
		if got, ok := OfELF(a.ELF); !ok || got != a {
			t.Errorf("%s: %v, %v", a.ELF, got, ok)
		}
	}
	if _, ok := OfELF(elf.EM_VAX); ok {
		t.Error("vax is no architecture that kimg knows")
	}
	const multi = "gdb-multiarch"
	if AMD64.GDBOn("") != "gdb" || AMD64.GDBOn("arm64") != multi || RISCV64.GDBOn("amd64") != multi {
		t.Error("a gdb of another architecture is taken for one that knows the guest's")
	}
	if got := AMD64.Package(); got != "x86-64-linux-gnu" {
		t.Errorf("gcc-14-%s is no package of Debian's", got)
	}
	if (Arch{}).Or() != Default || ARM64.Or() != ARM64 {
		t.Error("only no architecture is the default")
	}
}

func TestText(t *testing.T) {
	b, err := json.Marshal(struct{ Arch Arch }{AMD64})
	if err != nil || string(b) != `{"Arch":"amd64"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var got struct{ Arch Arch }
	if err := json.Unmarshal(b, &got); err != nil || got.Arch != AMD64 {
		t.Errorf("%v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"Arch":"vax"}`), &got); err == nil {
		t.Error("vax is no architecture that kimg knows")
	}
}
