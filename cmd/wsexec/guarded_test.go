package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Goroutines and timers are started by stdio.Go and stdio.After alone, which restore
// the terminal before a panic ends the program. The packages below start theirs by a
// function that they are given.
func TestEveryGoroutineIsGuarded(t *testing.T) {
	files := 0
	for _, dir := range []string{".", "../../internal/stdio", "../../internal/client", "../../internal/link"} {
		ours := dir == "." || dir == "../../internal/stdio"
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || name == "../../internal/stdio/goroutines.go" {
				continue
			}
			files++
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					// The default of a function that is given: func(f func()) { go f() }.
					if fun, ok := n.Call.Fun.(*ast.Ident); ours || !ok || fun.Name != "f" {
						t.Errorf("%v: a bare go statement", set.Position(n.Pos()))
					}
				case *ast.SelectorExpr:
					bare := n.Sel.Name == "AfterFunc" || n.Sel.Name == "Go" && isWaitGroup(n.X)
					if ours && bare {
						t.Errorf("%v: a bare %s", set.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
}

// isWaitGroup reports whether x, which has a Go, starts goroutines unguarded: all do
// but stdio itself, and cmd.Go, which is set to stdio.Go.
func isWaitGroup(x ast.Expr) bool {
	if sel, ok := x.(*ast.SelectorExpr); ok {
		x = sel.Sel // s.cmd
	}
	name, ok := x.(*ast.Ident)
	return !ok || name.Name != "cmd" && name.Name != "stdio"
}
