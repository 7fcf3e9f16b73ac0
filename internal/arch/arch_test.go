package arch

import (
	"encoding/json"
	"reflect"
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
	for _, a := range All {
		v := reflect.ValueOf(a)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s: %s is empty", a.Name, v.Type().Field(i).Name)
			}
		}
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
