package tidy

import (
	"fmt"
	"go/ast"
	"slices"
)

func checkBannedCalls(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			_, bubble := f.imports()["testing/synctest"] // a sleep there takes no time
			for _, d := range f.ast.Decls {
				fn, _ := d.(*ast.FuncDecl)
				ast.Inspect(d, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.SelectorExpr:
						from, name := f.selected(n)
						if why := bannedHere(p, f, fn, from, name); why != "" && !(bubble && from == "time") {
							report(t.at(n), fmt.Sprintf("uses %s.%s: %s", from, name, why))
						}
					case *ast.CallExpr:
						if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") && f.names.Uses[id] != nil &&
							f.names.Uses[id].Pkg() == nil {
							report(t.at(n), "uses the builtin "+id.Name)
						}
					}
					return true
				})
			}
		}
	}
}

// bannedHere returns why a name may not be used at this place, or "".
func bannedHere(p *pkg, f *goFile, fn *ast.FuncDecl, from, name string) string {
	for _, b := range bannedCalls {
		if b.pkg != from || b.names != nil && !slices.Contains(b.names, name) {
			continue
		}
		test := f.test || slices.Contains(testPackages, p.dir)
		if slices.Contains(b.dirs, p.dir) || b.tests && test {
			continue
		}
		if name == "Background" && fn != nil && backgroundExempt[exempt{p.dir, fn.Name.Name}] != "" {
			continue
		}
		return b.why
	}
	return ""
}

func checkContext(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncType:
					if n.Params != nil && len(n.Params.List) > 1 && !f.test {
						f.checkContextFirst(t, n, report)
					}
				case *ast.TypeSpec:
					s, ok := n.Type.(*ast.StructType)
					test := f.test || slices.Contains(testPackages, p.dir) // a test's setup lives as long as the test
					if !ok || test || contextFieldExempt[exempt{p.dir, n.Name.Name}] != "" {
						return true
					}
					for _, field := range s.Fields.List {
						if f.isContext(field.Type) {
							report(t.at(field), n.Name.Name+" keeps a context")
						}
					}
				}
				return true
			})
		}
	}
}

func (f *goFile) checkContextFirst(t *tree, fn *ast.FuncType, report func(where, what string)) {
	for i, param := range fn.Params.List {
		if i > 0 && f.isContext(param.Type) {
			report(t.at(param), "the context is not the first parameter")
		}
	}
}

func (f *goFile) isContext(e ast.Expr) bool {
	from, name := f.selected(e)
	return from == "context" && name == "Context"
}
