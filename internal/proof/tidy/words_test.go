package tidy

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// glossaryEntry is a row of ARCHITECTURE.md's table of words: words of one kind, what they mean,
// and the packages whose types have them.
type glossaryEntry struct {
	where string
	words []string
	homes []string
}

var (
	glossaryRow = regexp.MustCompile(`^\| ([^|]+) \| [^|]+ \| ([^|]*) \|$`)
	inBrackets  = regexp.MustCompile(`\([^)]*\)`)
)

// glossary reads the table of words.
func glossary(t *tree, page string) (entries []glossaryEntry) {
	text, _ := t.text(page)
	inside := false
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "## ") {
			inside = line == "## Words"
		}
		m := glossaryRow.FindStringSubmatch(line)
		if !inside || m == nil || m[1] == "word" || strings.HasPrefix(m[1], "---") {
			continue
		}
		e := glossaryEntry{where: fmt.Sprintf("%s:%d", page, i+1)}
		for word := range strings.SplitSeq(inBrackets.ReplaceAllString(m[1], ""), ",") {
			e.words = append(e.words, strings.TrimSpace(word))
		}
		for _, q := range quoted.FindAllStringSubmatch(m[2], -1) {
			e.homes = append(e.homes, q[1])
		}
		entries = append(entries, e)
	}
	return entries
}

// checkGlossary compares the table of words with the code: each word is used in its packages, and
// no exported type elsewhere has that name.
func checkGlossary(t *tree, report func(where, what string)) {
	for _, e := range glossary(t, "ARCHITECTURE.md") {
		for _, home := range e.homes {
			if t.find(home) == nil {
				report(e.where, "there is no package "+home)
			}
		}
		for _, word := range e.words {
			if !slices.ContainsFunc(e.homes, func(home string) bool { return uses(t.find(home), word) }) {
				report(e.where, fmt.Sprintf("no code of %s uses %q", strings.Join(e.homes, ", "), word))
			}
			for _, p := range t.packages {
				if !slices.Contains(e.homes, p.dir) && !slices.Contains(testPackages, p.dir) {
					checkWordElsewhere(t, p, word, report)
				}
			}
		}
	}
}

// uses reports whether a package has the word in its product files. A word of several parts is
// looked for with any of what may stand between them in code.
func uses(p *pkg, word string) bool {
	if p == nil {
		return false
	}
	parts := regexp.MustCompile(`[ -]`).Split(word, -1)
	pattern := regexp.MustCompile(`(?i)` + strings.Join(parts, `[ -]?`))
	return slices.ContainsFunc(p.files, func(f *goFile) bool { return pattern.MatchString(f.text) })
}

// checkWordElsewhere reports exported types of a package whose name is a word of other packages.
func checkWordElsewhere(t *tree, p *pkg, word string, report func(where, what string)) {
	called := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(word))
	parts := len(strings.Fields(strings.ReplaceAll(word, "-", " ")))
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range decl.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok || !spec.Name.IsExported() {
					continue
				}
				if name := lastWords(spec.Name.Name, parts); name == called || name == called+"s" {
					report(t.at(spec), fmt.Sprintf("%s is called by a word that means something else: %s", spec.Name.Name, word))
				}
			}
		}
	}
}

var camelWord = regexp.MustCompile(`[A-Z][a-z0-9]*`)

// lastWords returns the last n words of a name in camel case, in small letters.
func lastWords(name string, n int) string {
	words := camelWord.FindAllString(name, -1)
	return strings.ToLower(strings.Join(words[max(0, len(words)-n):], ""))
}
