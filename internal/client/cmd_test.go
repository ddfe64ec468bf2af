package client

import (
	"reflect"
	"strings"
	"testing"
)

// The package could be made public as it is: none of its exported names is of a
// type of another package of this module.
func TestExportedTypes(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(what string, x reflect.Type)
	walk = func(what string, x reflect.Type) {
		if seen[x] {
			return
		}
		seen[x] = true
		here := reflect.TypeFor[Cmd]().PkgPath()
		if module, _, _ := strings.Cut(here, "/"); strings.HasPrefix(x.PkgPath(), module+"/") && x.PkgPath() != here {
			t.Errorf("%s is a %v", what, x)
		}
		if x.PkgPath() != "" && x.PkgPath() != here {
			return
		}
		for i := range x.NumMethod() {
			walk(x.String()+"."+x.Method(i).Name, x.Method(i).Type)
		}
		switch x.Kind() {
		case reflect.Struct:
			walk(x.String(), reflect.PointerTo(x))
			for i := range x.NumField() {
				if f := x.Field(i); f.IsExported() {
					walk(x.String()+"."+f.Name, f.Type)
				}
			}
		case reflect.Func:
			for i := range x.NumIn() {
				walk(what, x.In(i))
			}
			for i := range x.NumOut() {
				walk(what, x.Out(i))
			}
		case reflect.Map:
			walk(what, x.Key())
			walk(what, x.Elem())
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
			walk(what, x.Elem())
		}
	}
	for _, x := range []any{New, Lost{}, Back{}, Gap{}, Error{}, ConnectError{}, ProxyError{}, LocalError{}} {
		walk(reflect.TypeOf(x).String(), reflect.TypeOf(x))
	}
	walk("Output", reflect.TypeFor[Output]())
	for _, want := range []reflect.Type{reflect.TypeFor[Result](), reflect.TypeFor[Session](), reflect.TypeFor[Start](), reflect.TypeFor[Winsize]()} {
		if !seen[want] {
			t.Errorf("%v was not looked at", want)
		}
	}
}
