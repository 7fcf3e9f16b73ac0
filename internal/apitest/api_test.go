// Package apitest sees kimg's public packages as another module does.
package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kimg/kimg/"

// public are the packages that other modules are meant to import.
var public = []string{"builder", "builder/spec", "builder/outdir", "container", "ext4", "image", "image/export"}

// TestNoInternalTypes: what is exported can be named by who imports it. A type of an internal package in an exported
// signature, field or variable has an alias in a public package.
func TestNoInternalTypes(t *testing.T) {
	s := seen{aliased: map[*types.TypeName]bool{}, found: map[string][]string{}}
	pkgs := load(t)
	for _, pkg := range pkgs {
		for _, name := range pkg.Scope().Names() {
			if obj, ok := pkg.Scope().Lookup(name).(*types.TypeName); ok && obj.IsAlias() && obj.Exported() {
				if named, ok := types.Unalias(obj.Type()).(*types.Named); ok {
					s.aliased[named.Obj()] = true
				}
			}
		}
	}
	if len(s.aliased) < 5 {
		t.Errorf("%d aliases: this test saw next to nothing", len(s.aliased))
	}
	for _, pkg := range pkgs {
		for _, name := range pkg.Scope().Names() {
			if obj := pkg.Scope().Lookup(name); obj.Exported() {
				s.object(obj)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.found)) {
		t.Errorf("%s has no public name, and is in %s", key, strings.Join(s.found[key], ", "))
	}
}

// load imports the public packages from the compiler's export data.
func load(t *testing.T) []*types.Package {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export"}
	for _, p := range public {
		args = append(args, module+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
	var pkgs []*types.Package
	for _, p := range public {
		pkg, err := from.Import(module + p)
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, pkg)
	}
	return pkgs
}

// seen is one look at all exported objects.
type seen struct {
	aliased map[*types.TypeName]bool // internal types that have a public name
	found   map[string][]string      // what has none, and where it is seen
	where   string
	pkg     string
}

func (s *seen) object(obj types.Object) {
	s.pkg = strings.TrimPrefix(obj.Pkg().Path(), module)
	s.where = obj.Name()
	name, ok := obj.(*types.TypeName)
	switch {
	case !ok:
		s.typ(obj.Type())
	case name.IsAlias(): // the name is what is public
	default:
		s.typ(obj.Type().Underlying())
		methods := types.NewMethodSet(types.NewPointer(obj.Type()))
		for m := range methods.Methods() {
			if m.Obj().Exported() {
				s.where = name.Name() + "." + m.Obj().Name()
				s.typ(m.Type())
			}
		}
	}
}

func (s *seen) typ(typ types.Type) {
	switch u := types.Unalias(typ).(type) {
	case *types.Named:
		obj := u.Obj()
		if pkg := obj.Pkg(); pkg != nil && strings.HasPrefix(pkg.Path(), module+"internal/") && !s.aliased[obj] {
			key := fmt.Sprintf("%s: %s.%s", s.pkg, strings.TrimPrefix(pkg.Path(), module), obj.Name())
			s.found[key] = append(s.found[key], s.where)
		}
		for arg := range u.TypeArgs().Types() {
			s.typ(arg)
		}
	case *types.Pointer:
		s.typ(u.Elem())
	case *types.Slice:
		s.typ(u.Elem())
	case *types.Array:
		s.typ(u.Elem())
	case *types.Chan:
		s.typ(u.Elem())
	case *types.Map:
		s.typ(u.Key())
		s.typ(u.Elem())
	case *types.Tuple:
		for v := range u.Variables() {
			s.typ(v.Type())
		}
	case *types.Signature:
		s.typ(u.Params())
		s.typ(u.Results())
	case *types.Struct:
		for f := range u.Fields() {
			if f.Exported() {
				s.typ(f.Type())
			}
		}
	case *types.Interface:
		for m := range u.Methods() {
			if m.Exported() {
				s.typ(m.Type())
			}
		}
	}
}
