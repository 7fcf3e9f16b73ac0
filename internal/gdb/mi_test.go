package gdb

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMI(t *testing.T) {
	for _, c := range []struct {
		line string
		want miRecord
	}{
		{"(gdb) \n", miRecord{}},
		{"5^connected", miRecord{Token: "5", Kind: '^', Class: "connected", Data: miTuple{}}},
		{`~"a\"b\\\303\251\t\n"`, miRecord{Kind: '~', Class: "a\"b\\é\t\n"}},
		{`3^error,msg="Function \"nosuch\" not defined."`,
			miRecord{Token: "3", Kind: '^', Class: "error", Data: miTuple{"msg": `Function "nosuch" not defined.`}}},
		{`1^done,bkpt={number="1",addr="<MULTIPLE>",locations=[{number="1.1",thread-groups=["i1"]},{number="1.2"}]}`,
			miRecord{Token: "1", Kind: '^', Class: "done", Data: miTuple{"bkpt": miTuple{
				"number": "1", "addr": "<MULTIPLE>", "locations": []any{
					miTuple{"number": "1.1", "thread-groups": []any{"i1"}}, miTuple{"number": "1.2"}}}}}},
		// before MI version 3 the locations follow without a name
		{`^done,bkpt={number="1"},{number="1.1"}`,
			miRecord{Kind: '^', Class: "done", Data: miTuple{"bkpt": miTuple{"number": "1"}}}},
		{`^done,stack=[frame={level="0"},frame={level="1"}],empty={},none=[]`,
			miRecord{Kind: '^', Class: "done", Data: miTuple{
				"stack": []any{miTuple{"level": "0"}, miTuple{"level": "1"}}, "empty": miTuple{}, "none": []any(nil)}}},
	} {
		got, err := parseMI(c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.line, diff)
		}
	}
	for _, bad := range []string{"hello", "12", `~"no end`, `^done,x`, `^done,x={`, `^done,x=[a`, `^done,"x`,
		`^done,x="1"y`, `~"\`} {
		if r, err := parseMI(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, r)
		}
	}
}

func FuzzParseMI(f *testing.F) {
	f.Add(`1^done,bkpt={number="1",locations=[{a="b"},x={}]},{c="\303"}`)
	f.Add(`*stopped,reason="breakpoint-hit",frame={args=[]}`)
	f.Add(`~"\12\n`)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseMI(line)
		if err == nil && r.Kind == '^' {
			r.Data.text("bkpt", "locations", "number")
		}
	})
}

func TestMIQuote(t *testing.T) {
	for _, s := range []string{"", "a b", `x"y\z`, "new\nline"} {
		r, err := parseMI("~" + miQuote(s))
		if err != nil || r.Class != s {
			t.Errorf("%q came back as %q, %v", s, r.Class, err)
		}
	}
}
