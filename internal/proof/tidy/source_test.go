package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

func checkPackageComments(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		files := p.files
		if len(files) == 0 { // tests only
			files = p.tests()
		}
		var with []*goFile
		for _, f := range files {
			if f.ast.Doc != nil {
				with = append(with, f)
			}
		}
		if len(with) != 1 {
			report(p.dir, fmt.Sprintf("has %d package comments", len(with)))
			continue
		}
		f := with[0]
		if len(p.files) > 1 && path.Base(f.path) != "doc.go" && p.name != "main" {
			report(f.path, "has the package comment, which belongs in doc.go")
		}
		start := "Package " + p.name + " "
		if p.name == "main" {
			start = "Command " + path.Base(p.dir) + " "
		}
		if !strings.HasPrefix(f.ast.Doc.Text(), start) {
			report(f.path, fmt.Sprintf("the package comment should start with %q", start))
		}
	}
}

func checkDocComments(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		if p.name == "main" {
			continue
		}
		for _, f := range p.files {
			if f.generated() {
				continue
			}
			for _, d := range f.ast.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Name.IsExported() && exportedReceiver(d) {
						checkDoc(t, d, d.Name, d.Doc, report)
					}
				case *ast.GenDecl:
					checkGroupDoc(t, d, report)
				}
			}
		}
	}
}

// exportedReceiver reports whether a function is one, or a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// checkGroupDoc looks at types, constants and variables. A group's comment is enough for its
// constants and variables.
func checkGroupDoc(t *tree, d *ast.GenDecl, report func(where, what string)) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			doc := s.Doc
			if doc == nil && !d.Lparen.IsValid() {
				doc = d.Doc
			}
			if s.Name.IsExported() {
				checkDoc(t, s, s.Name, doc, report)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					report(t.at(s), name.Name+" has no doc comment")
				}
			}
		}
	}
}

func checkDoc(t *tree, at ast.Node, name *ast.Ident, doc *ast.CommentGroup, report func(where, what string)) {
	if doc == nil {
		report(t.at(at), name.Name+" has no doc comment")
		return
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(doc.Text()), " "); strings.TrimRight(first, ":,.\n") != name.Name {
		report(t.at(at), fmt.Sprintf("the comment of %s starts with %q", name.Name, first))
	}
}

func checkInit(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					report(t.at(fn), "has an init")
				}
			}
			for to, spec := range f.imports() {
				if spec.Name != nil && spec.Name.Name == "_" && to != "embed" && to != "time/tzdata" && p.dir != "internal/sqlite" {
					report(t.at(spec), "imports "+to+" for its init")
				}
				if spec.Name != nil && spec.Name.Name == "." {
					report(t.at(spec), "imports "+to+" into its own names")
				}
			}
		}
	}
}

func checkFunctionLength(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			limit := 70
			if f.test || slices.Contains(testPackages, p.dir) {
				limit = 120
			}
			for _, d := range f.ast.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil || f.generated() {
					continue
				}
				lines := t.fset.Position(fn.Body.Rbrace).Line - t.fset.Position(fn.Body.Lbrace).Line - 1
				if lines > limit {
					report(t.at(fn), fmt.Sprintf("%s has %d lines, %d are allowed", fn.Name.Name, lines, limit))
				}
			}
		}
	}
}

func checkLineLength(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			if f.generated() {
				continue
			}
			limit := 140
			if f.test {
				limit = 180 // a table's row is read as one
			}
			for i, line := range strings.Split(f.text, "\n") {
				if width := utf8.RuneCountInString(line); width > limit && !strings.Contains(line, "://") {
					report(fmt.Sprintf("%s:%d", f.path, i+1), fmt.Sprintf("has %d characters", width))
				}
			}
		}
	}
}

var goGenerate = regexp.MustCompile(`(?m)^//go:generate .*$`)

func checkGenerated(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		var lines strings.Builder
		for _, f := range p.all() {
			for _, line := range goGenerate.FindAllString(f.text, -1) {
				lines.WriteString(line + "\n")
			}
		}
		for _, f := range p.all() {
			if f.generated() && !strings.Contains(lines.String(), path.Base(f.path)) {
				report(f.path, "is generated, but no go:generate line of its package names it")
			}
		}
	}
}

// The patterns are joined from parts, so that this file doesn't match itself.
var (
	machinePaths  = regexp.MustCompile(`(^|[\s"'` + "`" + `(=:,])(/(root|home|Users|work)/|[A-Z]:\\Users)`)
	registryHosts = regexp.MustCompile(`(proxy|sum)\.` + `golang\.org|registry\.` + `npmjs|files\.python` + `hosted|pypi\.` + `org|` +
		`GOPROXY` + `=http`)
)

func checkMachine(t *tree, report func(where, what string)) {
	for _, f := range t.texts {
		if strings.HasPrefix(f.path, "internal/proof/tidy/testdata/") {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			if machinePaths.MatchString(line) {
				report(fmt.Sprintf("%s:%d", f.path, i+1), "names a path of somebody's machine")
			}
			if registryHosts.MatchString(line) {
				report(fmt.Sprintf("%s:%d", f.path, i+1), "names a registry host")
			}
		}
	}
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func checkUnfinished(t *tree, report func(where, what string)) {
	for _, f := range t.texts {
		if !slices.Contains([]string{".go", ".lua", ".sql", ".md", ".yaml", ".yml", ".js", ".css", ".html"}, path.Ext(f.path)) {
			continue
		}
		if strings.HasPrefix(f.path, "internal/proof/tidy/") { // it describes them
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			if m := unfinished.FindString(line); m != "" {
				report(fmt.Sprintf("%s:%d", f.path, i+1), "has a "+m)
			}
		}
	}
}

var (
	silenced = regexp.MustCompile(`^//\s*(nolint|lint:ignore|lint:file-ignore|#nosec)`)
	reasoned = regexp.MustCompile(`^//(lint:(file-)?ignore \S+ \S+ \S+|nolint:\S+ // \S+ \S+)`)
)

func checkSuppressed(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			for _, group := range f.ast.Comments {
				for _, c := range group.List {
					if silenced.MatchString(c.Text) && !reasoned.MatchString(c.Text) {
						report(t.at(c), "silences a linter without a reason")
					}
				}
			}
		}
	}
}

// declared calls f for each name that a package declares with var, with its value, or nil.
func declared(file *ast.File, f func(d *ast.GenDecl, s *ast.ValueSpec, name *ast.Ident, value ast.Expr)) {
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			s := spec.(*ast.ValueSpec)
			for i, name := range s.Names {
				var value ast.Expr
				if i < len(s.Values) {
					value = s.Values[i]
				}
				f(g, s, name, value)
			}
		}
	}
}
