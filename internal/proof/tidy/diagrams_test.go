package tidy

import (
	"fmt"
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// diagram is a picture of ARCHITECTURE.md, in Mermaid. Its comment says what it shows.
type diagram struct {
	where string
	shows string   // "packages"
	lines []string // without the comment
}

// link is an arrow of a diagram.
type link struct{ from, to, label string }

func (l link) String() string {
	if l.label == "" {
		return l.from + " --> " + l.to
	}
	return l.from + " --> " + l.to + ": " + l.label
}

var linkLine = regexp.MustCompile(`^\s*(\S+) --> (\S+?)(?:: (.+))?$`)

// diagrams returns a page's pictures.
func diagrams(page, text string) (all []diagram) {
	inside := false
	for i, line := range strings.Split(text, "\n") {
		comment, isComment := strings.CutPrefix(strings.TrimSpace(line), "%% ")
		switch {
		case line == "```mermaid":
			inside = true
			all = append(all, diagram{where: fmt.Sprintf("%s:%d", page, i+1)})
		case line == "```":
			inside = false
		case inside && isComment:
			all[len(all)-1].shows = comment
		case inside:
			all[len(all)-1].lines = append(all[len(all)-1].lines, line)
		}
	}
	return all
}

// links returns the arrows.
func (d *diagram) links() []link {
	var all []link
	for _, line := range d.lines {
		if m := linkLine.FindStringSubmatch(line); m != nil {
			all = append(all, link{m[1], m[2], m[3]})
		}
	}
	return all
}

// compare reports what a diagram has and shouldn't have, and what it lacks.
func (d *diagram) compare(want []link, report func(where, what string)) {
	got := d.links()
	for _, l := range want {
		if !slices.Contains(got, l) {
			report(d.where, "lacks "+l.String())
		}
	}
	for _, l := range got {
		if l.from != "[*]" && !slices.Contains(want, l) {
			report(d.where, "has "+l.String()+", which isn't so")
		}
	}
}

func checkDiagrams(t *tree, report func(where, what string)) {
	const page = "ARCHITECTURE.md"
	text, _ := t.text(page)
	checks := map[string]func(*tree, *diagram, func(where, what string)){
		"packages": checkPackagePicture, "orders": checkOrderStates, "holds": checkHoldStates, "buy": checkSequence,
	}
	drawn := make(map[string]bool)
	for _, d := range diagrams(page, text) {
		if drawn[d.shows] = true; checks[d.shows] == nil {
			report(d.where, "a diagram says in a comment what it shows")
			continue
		}
		checks[d.shows](t, &d, report)
	}
	for _, shows := range slices.Sorted(maps.Keys(checks)) {
		if !drawn[shows] {
			report(page, "has no diagram of the "+shows)
		}
	}
}

// checkPackagePicture requires the imports of the product's files, without those that follow from
// others.
func checkPackagePicture(t *tree, d *diagram, report func(where, what string)) {
	imports := make(map[string]map[string]bool)
	for _, p := range t.packages {
		if slices.Contains(testPackages, p.dir) {
			continue
		}
		imports[p.dir] = make(map[string]bool)
		for _, f := range p.files {
			for to := range f.imports() {
				if to, ours := strings.CutPrefix(to, module+"/"); ours {
					imports[p.dir][to] = true
				}
			}
		}
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		for next := range imports[from] {
			if next == to || reaches(next, to) {
				return true
			}
		}
		return false
	}
	var want []link
	for from, all := range imports {
		for to := range all {
			follows := false
			for other := range all {
				follows = follows || other != to && reaches(other, to)
			}
			if !follows {
				want = append(want, link{from: from, to: to})
			}
		}
	}
	slices.SortFunc(want, func(a, b link) int { return strings.Compare(a.String(), b.String()) })
	d.compare(want, report)
}

// checkOrderStates requires the table of transitions in seckill, with each event in words, and
// every state of an order with a row.
func checkOrderStates(t *tree, d *diagram, report func(where, what string)) {
	p := t.find("seckill")
	if p == nil {
		report(d.where, "there is no package seckill")
		return
	}
	states := make(map[string]string) // by constant
	var table *ast.CompositeLit
	for _, f := range p.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.ValueSpec)
			if !ok || len(s.Names) != 1 || len(s.Values) != 1 {
				return true
			}
			if text, ok := s.Values[0].(*ast.BasicLit); ok && nameOf(s.Type) == "OrderState" {
				states[s.Names[0].Name] = strings.Trim(text.Value, `"`)
			}
			if literal, ok := s.Values[0].(*ast.CompositeLit); ok && s.Names[0].Name == "transitions" {
				table = literal
			}
			return true
		})
	}
	if table == nil || len(states) == 0 {
		report("seckill", "has no table of transitions")
		return
	}
	var want []link
	for _, row := range table.Elts {
		from := states[nameOf(row.(*ast.KeyValueExpr).Key)]
		for _, cell := range row.(*ast.KeyValueExpr).Value.(*ast.CompositeLit).Elts {
			pair := cell.(*ast.KeyValueExpr)
			next := pair.Value.(*ast.CompositeLit).Elts[0]
			if named, ok := next.(*ast.KeyValueExpr); ok {
				next = named.Value
			}
			want = append(want, link{from, states[nameOf(next)], inWords(strings.TrimPrefix(nameOf(pair.Key), "Event"))})
		}
	}
	d.compare(want, report)
	drawn := d.states()
	for name, state := range states {
		if !drawn[state] && state != "queued" { // has no row
			report(d.where, "doesn't show "+name)
		}
	}
}

// states returns the ends of all arrows.
func (d *diagram) states() map[string]bool {
	all := make(map[string]bool)
	for _, l := range d.links() {
		all[l.from], all[l.to] = true, true
	}
	delete(all, "[*]")
	return all
}

func nameOf(x ast.Expr) string {
	if id, ok := x.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// inWords turns TimedOut into "timed out".
func inWords(name string) string {
	var words strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			words.WriteByte(' ')
		}
		words.WriteRune(unicode.ToLower(r))
	}
	return words.String()
}

var writesState = regexp.MustCompile(`(?:become\(\w+, \w+|added\(\w+, \w+, \w+), '([A-Z])'`)

// checkHoldStates requires the states of inventory. Each arrow is named after the script that
// writes the state, and each state that a script writes by its letter has an arrow.
func checkHoldStates(t *tree, d *diagram, report func(where, what string)) {
	const folder = "inventory/lua/"
	p := t.find("inventory")
	if p == nil {
		report(d.where, "there is no package inventory")
		return
	}
	var states []string
	for _, f := range p.files {
		declared(f.ast, func(_ *ast.GenDecl, _ *ast.ValueSpec, name *ast.Ident, value ast.Expr) {
			if literal, ok := value.(*ast.CompositeLit); ok && name.Name == "stateNames" {
				for _, x := range literal.Elts {
					states = append(states, strings.Trim(x.(*ast.BasicLit).Value, `"`))
				}
			}
		})
	}
	drawn := d.states()
	for _, state := range states {
		if !drawn[state] && state != "none" {
			report(d.where, "doesn't show "+state)
		}
	}
	for state := range drawn {
		if !slices.Contains(states, state) {
			report(d.where, "there is no state "+state)
		}
	}
	for _, l := range d.links() {
		if _, ok := t.text(folder + l.label); !ok {
			report(d.where, l.String()+": there is no such script")
		}
	}
	for _, f := range t.texts {
		script, ok := strings.CutPrefix(f.path, folder)
		if !ok {
			continue
		}
		for _, m := range writesState.FindAllStringSubmatch(f.text, -1) {
			into := func(l link) bool { return l.label == script && strings.HasPrefix(strings.ToUpper(l.to), m[1]) }
			if !slices.ContainsFunc(d.links(), into) {
				report(d.where, fmt.Sprintf("doesn't show that %s makes a hold %s", script, m[1]))
			}
		}
	}
}

var methodName = regexp.MustCompile(`\b([A-Z]\w+)\.([A-Z]\w+)\b`)

// checkSequence requires that the methods in the messages exist.
func checkSequence(t *tree, d *diagram, report func(where, what string)) {
	methods := make(map[string]bool)
	for _, p := range t.packages {
		for _, f := range p.files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Recv != nil {
						receiver := n.Recv.List[0].Type
						if star, ok := receiver.(*ast.StarExpr); ok {
							receiver = star.X
						}
						methods[nameOf(receiver)+"."+n.Name.Name] = true
					}
				case *ast.TypeSpec:
					if i, ok := n.Type.(*ast.InterfaceType); ok {
						for _, m := range i.Methods.List {
							for _, name := range m.Names {
								methods[n.Name.Name+"."+name.Name] = true
							}
						}
					}
				}
				return true
			})
		}
	}
	named := 0
	for _, line := range d.lines {
		for _, m := range methodName.FindAllString(line, -1) {
			named++
			if !methods[m] {
				report(d.where, "there is no "+m)
			}
		}
	}
	if named == 0 {
		report(d.where, "names no method")
	}
}
