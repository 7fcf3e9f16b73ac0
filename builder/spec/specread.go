package spec

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/yamlfile"
	"go.yaml.in/yaml/v3"
)

// places are the values of a kimg.yaml, as "key=value", with FILE:LINE of each. What a flag says is not there.
type places map[string]string

// Wrong is an *InputError of a field's value, called as whoever gave it does: by the flag, or the file and line.
func (s Spec) Wrong(flag string, value any, err error) error {
	for _, key := range []string{strings.TrimPrefix(flag, "--"), plural[strings.TrimPrefix(flag, "--")]} {
		if at, ok := s.places[key+"="+fmt.Sprint(value)]; ok {
			return &InputError{at + ": " + key, err}
		}
	}
	return &InputError{flag, err}
}

// Located gives an error of what archives have, or have not, the place where it was asked for; others are returned as
// they are.
func (s Spec) Located(err error) error {
	var input *InputError
	if err == nil || errors.As(err, &input) {
		return err
	}
	named := func(name string) string {
		for _, p := range s.Include {
			if is, _, _ := archive.CutVersion(p); is == name {
				return p
			}
		}
		return ""
	}
	var flag, value string
	var unknown *archive.UnknownError
	var version *archive.VersionError
	var depend *archive.DependError
	var clash *archive.ClashError
	var file *archive.FileError
	var line *archive.LineError
	var component *archive.ComponentError
	var source *kernel.NoPackageError
	switch {
	case errors.As(err, &source):
		flag, value = "--kernel", s.Kernel
	case errors.As(err, &unknown):
		flag, value = "--include", named(unknown.Names[0])
	case errors.As(err, &version):
		flag, value = "--include", named(version.Name)
	case errors.As(err, &depend):
		flag, value = "--include", named(depend.Package)
	case errors.As(err, &clash) && len(clash.Asked) > 0:
		flag, value = "--include", named(clash.Asked[0])
	case errors.As(err, &file):
		flag, value = "--include", file.File
	case errors.As(err, &component):
		flag, value = "--components", component.Component
		if !slices.Contains(s.Components, value) {
			value = ""
		}
	case errors.As(err, &line):
		flag = "--archive"
		for _, text := range s.Archives {
			if l, err := archive.ParseLine(text); err == nil && l.Name() == line.Line.Name() {
				value = text
			}
		}
	}
	if value == "" {
		return err
	}
	return s.Wrong(flag, value, err)
}

// plural are the flags that kimg.yaml calls otherwise.
var plural = map[string]string{"fragment": "fragments", "patch": "patches", "target": "targets",
	"archive": "archives"}

// fields are the keys of a kimg.yaml, in the order of Spec, and where their values go.
func fields(s *Spec) (keys []string, at map[string]reflect.Value) {
	at = map[string]reflect.Value{}
	var add func(v reflect.Value)
	add = func(v reflect.Value) {
		for i := range v.NumField() {
			name, how, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			switch {
			case how == "inline":
				add(v.Field(i))
			case name != "" && name != "-":
				keys = append(keys, name)
				at[name] = v.Field(i)
			}
		}
	}
	add(reflect.ValueOf(s).Elem())
	return keys, at
}

// fileReader reads a kimg.yaml.
type fileReader struct{ yamlfile.Reader }

// item is a value of the file, and its line.
type item struct {
	key, text string
	line      int
}

// spec lays a kimg.yaml over s, and returns its values.
func (r *fileReader) spec(text []byte, s *Spec) []item {
	top := r.Document(text)
	if top == nil || yamlfile.IsNull(top) {
		return nil
	}
	var items []item
	keys, at := fields(s)
	values := r.Mapping(top, "a "+File, keys)
	for _, key := range keys {
		n := values[key]
		if n == nil || yamlfile.IsNull(n) {
			continue
		}
		items = append(items, r.value(key, n, at[key])...)
	}
	return items
}

// value reads the value of one key into its field.
func (r *fileReader) value(key string, n *yaml.Node, to reflect.Value) []item {
	switch to := to.Addr().Interface().(type) {
	case *[]OwnFile:
		*to = each(r, n, r.file)
		return nil
	case *[]OwnUser:
		*to = each(r, n, r.user)
		return nil
	case *[]OwnKey:
		*to = r.keys(n)
		return nil
	case *OwnUnits:
		*to = r.units(n)
		return nil
	}
	if to.Kind() == reflect.Slice {
		items := r.list(key, n)
		to.SetZero()
		for _, i := range items {
			to.Set(reflect.Append(to, reflect.ValueOf(i.text)))
		}
		return items
	}
	if n.Kind != yaml.ScalarNode {
		r.Wrong(n, "%s: want one value here%s", key, yamlfile.Instead(n))
		return nil
	}
	switch at := to.Addr().Interface().(type) {
	case *bool:
		switch word := switches[strings.ToLower(n.Value)]; {
		case word == "":
			r.Wrong(n, "%s: %q: want true or false", key, n.Value)
		case n.Style != 0: // a text, which other tools would not take
			r.Wrong(n, "%s: %q is a text: want true or false, without quotes", key, n.Value)
		default:
			*at = word == "y"
		}
	case *int:
		v, err := strconv.Atoi(n.Value)
		if err == nil && n.Style != 0 {
			r.Wrong(n, "%s: %q is a text: want a number, without quotes", key, n.Value)
		} else if err != nil {
			r.Wrong(n, "%s: %q: want a number", key, n.Value)
		}
		*at = v
	case *DiskSize:
		if err := at.UnmarshalText([]byte(n.Value)); err != nil {
			r.Wrong(n, "%s: %w", key, err)
		}
	default:
		if n.Value == "" {
			r.Wrong(n, "%s: is empty: give it a value, or leave it out", key)
		}
		to.SetString(n.Value)
	}
	return []item{{key, n.Value, n.Line}}
}

// each reads the items of a list.
func each[T any](r *fileReader, n *yaml.Node, read func(*yaml.Node) T) (all []T) {
	for _, one := range r.List(n) {
		all = append(all, read(one))
	}
	return all
}

// simpleSet is a setting whose value has no comma in it, whatever it is in.
var simpleSet = regexp.MustCompile(`^(CONFIG_)?[A-Za-z0-9_]+=(y|m|n|-?[0-9]+|0[xX][0-9a-fA-F]+)$`)

// list reads a list, or what looks like one: a single value, or several apart by commas where no value has one.
func (r *fileReader) list(key string, n *yaml.Node) (items []item) {
	for _, one := range r.List(n) {
		one = yamlfile.Resolve(one)
		if key == "set" && one.Kind == yaml.MappingNode {
			items = append(items, r.settings(one)...)
			continue
		}
		text := r.Text(key, one)
		if text == "" {
			continue
		}
		for _, t := range split(key, text) {
			items = append(items, item{key, t, one.Line})
		}
	}
	if key == "set" {
		r.onceEach(items)
	}
	return items
}

// onceEach wants one value of each symbol in a file.
func (r *fileReader) onceEach(items []item) {
	first := map[string]item{}
	for _, i := range items {
		symbol, _, _ := strings.Cut(strings.TrimPrefix(i.text, "CONFIG_"), "=")
		if was, ok := first[symbol]; ok && was.text != i.text {
			r.Wrong(&yaml.Node{Line: i.line}, "set: %s is there already, in line %d", symbol, was.line)
		}
		first[symbol] = i
	}
}

// settings reads set: {KASAN: y}, and what it looks like in a list.
func (r *fileReader) settings(n *yaml.Node) (items []item) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		symbol, v := n.Content[i], yamlfile.Resolve(n.Content[i+1])
		if v.Kind != yaml.ScalarNode || yamlfile.IsNull(v) {
			r.Wrong(v, "set: %s: want y, m, n, a number or a text here", symbol.Value)
			continue
		}
		value := v.Value
		if v.Style == 0 { // not quoted
			value = cmp.Or(switches[strings.ToLower(value)], value)
		}
		items = append(items, item{"set", symbol.Value + "=" + value, symbol.Line})
	}
	return items
}

// switches are YAML's words for the values of a symbol.
var switches = map[string]string{"true": "y", "yes": "y", "on": "y", "false": "n", "no": "n", "off": "n"}

// Split is what a text of a list's key stands for: several values where they are apart by commas or blanks and none
// has one, as a file in a directory may.
func Split(key, text string) []string {
	if key == "include" && strings.Contains(text, "/") {
		return slices.DeleteFunc(strings.Split(text, ","), func(p string) bool { return p == "" })
	}
	return split(key, text)
}

func split(key, text string) []string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	switch key {
	case "include", "targets", "components":
		return parts
	case "set":
		for _, p := range parts {
			if !simpleSet.MatchString(p) {
				return []string{text}
			}
		}
		return parts
	}
	return []string{text}
}

// placesOf notes where the values are that a file gave: a path is called as the Spec has it.
func placesOf(file string, items []item, s *Spec) places {
	_, at := fields(s)
	all, nth := places{}, map[string]int{}
	for _, i := range items {
		v := at[i.key]
		if v.Kind() == reflect.Slice {
			v = v.Index(nth[i.key])
			nth[i.key]++
		}
		all[i.key+"="+fmt.Sprint(v.Interface())] = fmt.Sprintf("%s:%d", file, i.line)
	}
	return all
}
