package spec

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// EditSet makes the list under set: of a kimg.yaml what set says, and leaves every other line as the user wrote it,
// comments and blank lines included. Encoding the parsed document again would keep the comments alone; it is done
// only where the list is not one entry a line.
func EditSet(text []byte, set []string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != 0 && (len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode) && !isNull(&doc) {
		return nil, errors.New("it is not a mapping")
	}
	if out, err := spliceSet(text, &doc, set); err == nil && onlySet(text, out, set) {
		return out, nil
	}
	if doc.Kind == 0 || isNull(&doc) {
		return nil, errors.New("it cannot be added to")
	}
	out, err := encodeSet(&doc, set)
	if err == nil && !onlySet(text, out, set) {
		err = errors.New("its set: cannot be edited")
	}
	return out, err
}

func isNull(doc *yaml.Node) bool {
	return doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 && doc.Content[0].Tag == "!!null"
}

// errForm says that set: is not written in a form that lines can be put into.
var errForm = errors.New("not one entry a line")

// spliceSet edits line by line.
func spliceSet(text []byte, doc *yaml.Node, set []string) ([]byte, error) {
	lines := strings.SplitAfter(string(text), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines[last] += "\n"
	}
	indent := "  "
	at := len(lines) // where new entries go
	gone := map[int]bool{}
	have := map[string]bool{}
	key, list := find(doc, "set")
	switch {
	case key == nil:
		lines = append(lines, "set:\n")
		at = len(lines)
	case list.Tag == "!!null" && list.Value == "" && list.Kind == yaml.ScalarNode:
		at = key.Line
	case list.Kind != yaml.SequenceNode || list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0:
		return nil, errForm
	default:
		seen := 0
		for _, item := range list.Content {
			if item.Line == seen || item.Kind != yaml.ScalarNode {
				return nil, errForm
			}
			seen = item.Line
			line := lines[item.Line-1]
			dash := strings.IndexByte(line, '-')
			if dash < 0 || strings.TrimLeft(line[:dash], " ") != "" {
				return nil, errForm
			}
			indent, at = line[:dash], item.Line
			if slices.Contains(set, item.Value) && !have[item.Value] {
				have[item.Value] = true
			} else {
				gone[item.Line-1] = true
			}
		}
	}
	var out strings.Builder
	put := func() error {
		for _, v := range set {
			if have[v] {
				continue
			}
			b, err := yaml.Marshal(v)
			if err != nil {
				return err
			}
			out.WriteString(indent + "- " + string(b))
		}
		return nil
	}
	for i, line := range lines {
		if i == at {
			if err := put(); err != nil {
				return nil, err
			}
		}
		if !gone[i] {
			out.WriteString(line)
		}
	}
	if at == len(lines) {
		if err := put(); err != nil {
			return nil, err
		}
	}
	return []byte(out.String()), nil
}

func find(doc *yaml.Node, name string) (key, value *yaml.Node) {
	if doc.Kind != yaml.DocumentNode || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil
	}
	m := doc.Content[0].Content
	for i := 0; i+1 < len(m); i += 2 {
		if m[i].Value == name {
			return m[i], m[i+1]
		}
	}
	return nil, nil
}

// encodeSet edits the parsed document.
func encodeSet(doc *yaml.Node, set []string) ([]byte, error) {
	var fresh yaml.Node
	if err := fresh.Encode(set); err != nil {
		return nil, err
	}
	key, list := find(doc, "set")
	if key == nil {
		return nil, errForm
	}
	if list.Kind == yaml.ScalarNode { // it becomes a block
		key.LineComment, list.LineComment, list.Style = list.LineComment, "", 0
	}
	list.Kind, list.Tag, list.Value, list.Alias, list.Content = fresh.Kind, fresh.Tag, "", nil, fresh.Content

	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// onlySet reports whether an edit did what it should and nothing else; the entries' order may differ.
func onlySet(before, after []byte, set []string) bool {
	var a, b map[string]any
	if yaml.Unmarshal(before, &a) != nil || yaml.Unmarshal(after, &b) != nil {
		return false
	}
	var got struct{ Set []string }
	if yaml.Unmarshal(after, &got) != nil {
		return false
	}
	delete(a, "set")
	delete(b, "set")
	if len(a) == 0 && len(b) == 0 {
		a, b = nil, nil
	}
	return reflect.DeepEqual(a, b) && slices.Equal(got.Set, set)
}
