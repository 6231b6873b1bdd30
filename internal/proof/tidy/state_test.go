package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// checkPackageState allows a package variable when it is
//
//   - the check that a type implements an interface: var _ I = …
//   - a sentinel: errors.New or fmt.Errorf
//   - an embedded file: //go:embed
//   - a value that its package makes once and has no way to change: see immutableCalls
//   - a table: a composite literal or a pointer to one, or a conversion of a string to bytes.
//     Nothing in the package assigns to it, takes its address, deletes from it or clears it. The
//     address of an entry is not looked at.
//   - in tests, anything that nothing changes
//
// and refuses everything else.
func checkPackageState(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		changed := map[types.Object]ast.Node{}
		for _, f := range p.all() {
			findChanges(f, changed)
		}
		for _, f := range p.all() {
			test := f.test || slices.Contains(testPackages, p.dir)
			declared(f.ast, func(d *ast.GenDecl, s *ast.ValueSpec, name *ast.Ident, value ast.Expr) {
				if name.Name == "_" || f.generated() || stateExempt[exempt{p.dir, name.Name}] != "" {
					return
				}
				if at, ok := changed[f.names.Defs[name]]; ok {
					report(t.at(name), fmt.Sprintf("%s is changed at %s", name.Name, t.at(at)))
				} else if !test && !embedded(d, s) && !f.immutable(value) {
					report(t.at(name), name.Name+" is a package variable")
				}
			})
		}
	}
}

func embedded(d *ast.GenDecl, s *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{d.Doc, s.Doc} {
		if doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
			return true
		}
	}
	return false
}

// immutableCalls return what can't be changed afterwards, or is safe for concurrent use and has no
// state that matters.
var immutableCalls = map[string][]string{
	"errors":          {"New", "Join"},
	"fmt":             {"Errorf"},
	"regexp":          {"MustCompile"},
	"strings":         {"NewReplacer"},
	"encoding/base32": {"NewEncoding"},
	"encoding/base64": {"NewEncoding"},
	"hash/crc32":      {"MakeTable"},
	"math/big":        {"NewInt"},
	"time":            {"Date", "FixedZone"},
	"net/netip":       {"MustParseAddr", "MustParsePrefix"},
	"github.com/prometheus/client_golang/prometheus": {"NewDesc"},
}

// immutable reports whether a variable that starts with this value, and is never assigned to, stays
// as it is.
func (f *goFile) immutable(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.ParenExpr:
		return f.immutable(e.X)
	case *ast.UnaryExpr: // &Refusal{…}
		_, ok := e.X.(*ast.CompositeLit)
		return e.Op == token.AND && ok
	case *ast.CallExpr:
		if _, ok := e.Fun.(*ast.ArrayType); ok { // []byte("…")
			return true
		}
		// base32.NewEncoding(…).WithPadding(…)
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok {
			if inner, ok := sel.X.(*ast.CallExpr); ok {
				return f.immutable(inner)
			}
		}
		from, name := f.selected(e.Fun)
		return slices.Contains(immutableCalls[from], name)
	default:
		return false
	}
}

// findChanges records the package variables that a file changes, with the places.
func findChanges(f *goFile, changed map[types.Object]ast.Node) {
	note := func(e ast.Expr, at ast.Node) {
		if v, ok := f.names.Uses[root(e)].(*types.Var); ok && v.Parent() == v.Pkg().Scope() {
			changed[v] = at
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, left := range n.Lhs {
					note(left, n)
				}
			}
		case *ast.IncDecStmt:
			note(n.X, n)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				note(n.Key, n)
				note(n.Value, n)
			}
		case *ast.UnaryExpr:
			if _, whole := ast.Unparen(n.X).(*ast.Ident); n.Op == token.AND && whole {
				note(n.X, n)
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"delete", "clear", "copy"}, id.Name) {
				note(n.Args[0], n)
			}
		}
		return true
	})
}

// root returns the variable that an expression like a.b[i].c is part of, or nil.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
