//go:build linux

package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A sourcePackage is what the sources of one package have in them.
type sourcePackage struct {
	files   map[string]bool // by name
	names   map[string]bool // Func, Type, Type.Method, Type.field, constant, variable
	imports map[string]bool // of this module, by their last element
}

// readSources reads all packages of this module, without their tests, by the
// last element of their paths.
func readSources(t *testing.T) map[string]*sourcePackage {
	t.Helper()
	all := map[string]*sourcePackage{}
	for _, pattern := range []string{"cmd/*/*.go", "internal/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			dir, name := filepath.Split(path)
			p := all[filepath.Base(dir)]
			if p == nil {
				p = &sourcePackage{map[string]bool{}, map[string]bool{}, map[string]bool{}}
				all[filepath.Base(dir)] = p
			}
			p.files[name] = true
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			p.read(f)
		}
	}
	return all
}

func (p *sourcePackage) read(f *ast.File) {
	for _, i := range f.Imports {
		if path := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(path, "wsexec/") {
			p.imports[filepath.Base(path)] = true
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				receiver := d.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				if generic, ok := receiver.(*ast.IndexExpr); ok {
					receiver = generic.X
				}
				name = receiver.(*ast.Ident).Name + "." + name
			}
			p.names[name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, n := range s.Names {
						p.names[n.Name] = true
					}
				case *ast.TypeSpec:
					p.names[s.Name.Name] = true
					st, ok := s.Type.(*ast.StructType)
					if !ok {
						continue
					}
					for _, field := range st.Fields.List {
						for _, n := range field.Names {
							p.names[s.Name.Name+"."+n.Name] = true
						}
					}
				}
			}
		}
	}
}

var (
	inBackticks = regexp.MustCompile("`([^`\n]+)`")
	sourceName  = regexp.MustCompile(`^([a-z-]+)\.((?:[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)?)(?:\(\))?$`)
	sourceFile  = regexp.MustCompile(`^(?:internal/|cmd/)?([a-z-]+)/([a-z_0-9]+\.go)$`)
	importRow   = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|.*\\| ([^|]*) \\|$")
)

// docs/architecture.md is the map of the code. Each function, type, field and
// file that it names is there, and each package is in its table, with what it
// imports.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(repository, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	text, sources := string(b), readSources(t)

	named := 0
	for _, m := range inBackticks.FindAllStringSubmatch(text, -1) {
		if f := sourceFile.FindStringSubmatch(m[1]); f != nil {
			named++
			if p := sources[f[1]]; p == nil || !p.files[f[2]] {
				t.Errorf("it names the file %s, which is not there", m[1])
			}
		} else if n := sourceName.FindStringSubmatch(m[1]); n != nil && sources[n[1]] != nil {
			named++
			if !sources[n[1]].names[n[2]] {
				t.Errorf("it names %s, which is not there", m[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("it names only %d things: the map is not read as it is written", named)
	}

	rows := map[string]bool{}
	for _, m := range importRow.FindAllStringSubmatch(text, -1) {
		name := m[1]
		rows[name] = true
		p := sources[name]
		if p == nil {
			t.Errorf("it has a package %s, which is not there", name)
			continue
		}
		imports := map[string]bool{}
		for _, i := range inBackticks.FindAllStringSubmatch(m[2], -1) {
			imports[i[1]] = true
		}
		if !maps.Equal(imports, p.imports) {
			t.Errorf("%s imports %v, and the table has %v", name, slices.Sorted(maps.Keys(p.imports)), slices.Sorted(maps.Keys(imports)))
		}
	}
	for name := range sources {
		if !rows[name] {
			t.Errorf("the table has no package %s", name)
		}
	}

	const described = 42 // the column from where a line is described
	_, picture, _ := strings.Cut(text, "```\n")
	picture, _, _ = strings.Cut(picture, "```")
	line := map[string]int{} // of a package, the top one being 0
	last := ""
	n := -1
	for l := range strings.Lines(picture) {
		kind, names, _ := strings.Cut(l[:min(len(l), described)], " ")
		if kind != last {
			n++
		}
		last = kind
		for _, name := range strings.Fields(names) {
			if sources[name] == nil {
				t.Errorf("the picture has a package %s, which is not there", name)
			}
			line[name] = n
		}
	}
	for name, p := range sources {
		for i := range p.imports {
			if from, ok := line[name]; ok && line[i] <= from {
				t.Errorf("%s imports %s, which the picture has above it or beside it", name, i)
			}
		}
	}
}
