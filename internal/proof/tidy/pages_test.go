package tidy

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

// laws are the numbers of the laws in docs/laws.md.
var laws = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}

// testsOf returns the names of a package's tests.
func testsOf(p *pkg) []string {
	var names []string
	for _, f := range p.tests() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

var testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)\w*$`)

func checkLaws(t *tree, report func(where, what string)) {
	for _, law := range laws {
		prefix := fmt.Sprintf("TestL%d_", law)
		named := func(test string) bool { return strings.HasPrefix(test, prefix) }
		tested := func(p *pkg) bool { return p.dir != "internal/proof/tidy" && slices.ContainsFunc(testsOf(p), named) }
		if !slices.ContainsFunc(t.packages, tested) {
			report(fmt.Sprintf("L%d", law), "has no test named "+prefix+"…")
		}
	}
}

// A list item of docs/laws.md that names tests names their package first: "`seckill`: `TestL1_…`,
// `TestL1_…`". A case of a suite is named as the suite names it, or by its first words:
// "`internal/proof/stocktest`: `L5 the limit counts`".
var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	caseName = regexp.MustCompile(`^L[0-9]+ `)
)

func checkLawPages(t *tree, report func(where, what string)) {
	const page = "docs/laws.md"
	text, ok := t.text(page)
	if !ok {
		report(page, "is missing")
		return
	}
	for _, law := range laws {
		if !strings.Contains(text, fmt.Sprintf("\n## L%d", law)) {
			report(page, fmt.Sprintf("has no section L%d", law))
		}
	}
	var p *pkg // of the list item
	for i, line := range strings.Split(text, "\n") {
		where := fmt.Sprintf("%s:%d", page, i+1)
		if !strings.HasPrefix(line, " ") {
			p = nil
		}
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			switch word := m[1]; {
			case t.find(word) != nil:
				p = t.find(word)
			case !testName.MatchString(word) && !caseName.MatchString(word):
			case p == nil:
				report(where, "names "+word+" without its package")
			case !slices.Contains(testsOf(p), word) && !hasCase(p, word):
				report(where, p.dir+" has no "+word)
			}
		}
	}
}

// hasCase reports whether a suite of tests has a case of that name.
func hasCase(p *pkg, name string) bool {
	return slices.Contains(testPackages, p.dir) && slices.ContainsFunc(p.all(), func(f *goFile) bool { return strings.Contains(f.text, `"`+name) })
}

var (
	adrName  = regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)
	adrParts = []string{"## Context", "## Decision", "## Consequences", "## Rejected"}
)

func checkADRs(t *tree, report func(where, what string)) {
	numbers := map[string]string{}
	for _, f := range t.texts {
		if path.Dir(f.path) != "docs/adr" || path.Base(f.path) == "README.md" {
			continue
		}
		m := adrName.FindStringSubmatch(path.Base(f.path))
		if m == nil {
			report(f.path, "is not named NNNN-title.md")
			continue
		}
		if other, taken := numbers[m[1]]; taken {
			report(f.path, "has the number of "+other)
		}
		numbers[m[1]] = f.path
		if !strings.HasPrefix(f.text, "# "+m[1]+" ") {
			report(f.path, fmt.Sprintf("should start with %q", "# "+m[1]+" "))
		}
		for _, part := range adrParts {
			if !strings.Contains(f.text, "\n"+part+"\n") {
				report(f.path, "has no part "+part)
			}
		}
	}
}

var mdLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// checkLinks reports links to files that don't exist, and to headings that a page doesn't have.
func checkLinks(t *tree, report func(where, what string)) {
	exists := map[string]bool{".": true}
	for _, f := range t.texts {
		for at := f.path; at != "."; at = path.Dir(at) {
			exists[at] = true
		}
	}
	for _, f := range t.texts {
		if path.Ext(f.path) != ".md" {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			for _, m := range mdLink.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], ":") || strings.HasPrefix(m[1], "/") {
					continue
				}
				target, heading, _ := strings.Cut(m[1], "#")
				to := f.path
				if target != "" {
					to = path.Join(path.Dir(f.path), target)
				}
				where := fmt.Sprintf("%s:%d", f.path, i+1)
				if !exists[to] {
					report(where, "links to "+target+", which isn't there")
				} else if heading != "" && !t.hasHeading(to, heading) {
					report(where, "links to "+m[1]+", and the page has no such heading")
				}
			}
		}
	}
}

var (
	mdHeading   = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notInAnchor = regexp.MustCompile(`[^\pL\pN _-]`)
)

// hasHeading reports whether a page has a heading with this anchor, as GitHub makes it.
func (t *tree) hasHeading(page, anchor string) bool {
	text, _ := t.text(page)
	for _, m := range mdHeading.FindAllStringSubmatch(text, -1) {
		made := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(made, " ", "-") == anchor {
			return true
		}
	}
	return false
}

func checkPackageMap(t *tree, report func(where, what string)) {
	const page = "ARCHITECTURE.md"
	text, ok := t.text(page)
	if !ok {
		report(page, "is missing")
		return
	}
	for _, p := range t.packages {
		if !strings.Contains(text, "`"+p.dir+"`") {
			report(page, "doesn't mention "+p.dir)
		}
	}
}

func checkChangelog(t *tree, report func(where, what string)) {
	const page = "CHANGELOG.md"
	text, ok := t.text(page)
	switch {
	case !ok:
		report(page, "is missing")
	case !strings.Contains(text, "\n## [Unreleased]\n"):
		report(page, "has no part [Unreleased]")
	}
}
