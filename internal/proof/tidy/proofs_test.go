package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// proofRow is a row of CONTRIBUTING.md's table of proofs: packages, and links to what proves them.
var proofRow = regexp.MustCompile("(?m)^\\| ((?:`[^`]+`(?:, )?)+) \\| .*\\]\\([^)]+\\).*\\|$")

// checkProofs reports packages with files that have no test beside them and no row in
// CONTRIBUTING.md, and rows of packages that have no such file.
func checkProofs(t *tree, report func(where, what string)) {
	const page = "CONTRIBUTING.md"
	text, _ := t.text(page)
	_, table, _ := strings.Cut(text, "| package | proof")
	table, _, _ = strings.Cut(table, "\n\n")
	var told []string
	for _, row := range proofRow.FindAllStringSubmatch(table, -1) {
		for _, name := range quoted.FindAllStringSubmatch(row[1], -1) {
			told = append(told, name[1])
			if p := t.find(name[1]); p == nil || unproven(p) == nil {
				report(page, name[1]+" has no file without a test beside it")
			}
		}
	}
	for _, p := range t.packages {
		if slices.Contains(testPackages, p.dir) || slices.Contains(told, p.dir) {
			continue
		}
		if f := unproven(p); f != nil {
			report(f.path, fmt.Sprintf("has no test beside it, and %s doesn't say where the proof of %s is", page, p.dir))
		}
	}
}

// unproven returns the first file of a package that has no test beside it, or nil. A package
// comment needs none.
func unproven(p *pkg) *goFile {
	for _, f := range p.files {
		beside := strings.TrimSuffix(f.path, ".go") + "_test.go"
		tested := slices.ContainsFunc(p.tests(), func(test *goFile) bool { return test.path == beside })
		if !tested && path.Base(f.path) != "doc.go" {
			return f
		}
	}
	return nil
}
