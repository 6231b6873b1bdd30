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

// maxWords is how many words a sentence may have.
const maxWords = 40

// paragraph is prose: a paragraph of a page or of a comment, or an item of a list there.
type paragraph struct {
	where string
	text  string
}

var listItem = regexp.MustCompile(`^\s*([-*]|\d+\.)\s`)

// prose returns the paragraphs of pages, and of comments in Go, Lua and SQL. Code, tables and
// headings are none.
func (t *tree) prose() (all []paragraph) {
	for _, f := range t.texts {
		switch path.Ext(f.path) {
		case ".md":
			all = append(all, paragraphs(f.path, pageLines(f.text))...)
		case ".go":
			all = append(all, paragraphs(f.path, commentLines(f.text))...)
		case ".lua", ".sql":
			all = append(all, paragraphs(f.path, dashLines(f.text))...)
		}
	}
	return all
}

// pageLines returns a page's lines, empty where they are no prose.
func pageLines(text string) []string {
	lines := strings.Split(text, "\n")
	code := false
	for i, line := range lines {
		start := strings.TrimSpace(line)
		fence := strings.HasPrefix(start, "```")
		if fence {
			code = !code
		}
		if code || fence || strings.HasPrefix(start, "|") || strings.HasPrefix(start, "#") {
			lines[i] = ""
		}
	}
	return lines
}

var (
	comment  = regexp.MustCompile(`^\s*// ?(.*)$`)
	notProse = regexp.MustCompile(`^\s*//(go:|lint:|\t| ?#|\s*$)`)
)

// commentLines returns the text of a Go file's comments that stand on lines of their own, empty
// where a line has none.
func commentLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		m := comment.FindStringSubmatch(line)
		if m == nil || notProse.MatchString(line) {
			lines[i] = ""
			continue
		}
		lines[i] = m[1]
	}
	return lines
}

var (
	dashComment = regexp.MustCompile(`^\s*-- ?(.*)$`)
	argument    = regexp.MustCompile(`^(KEYS|ARGV)\b`)
)

// dashLines is commentLines for Lua and SQL. An argument of a script begins an item of a list.
func dashLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = ""
		if m := dashComment.FindStringSubmatch(line); m != nil {
			lines[i] = argument.ReplaceAllString(m[1], "- $0")
		}
	}
	return lines
}

func paragraphs(file string, lines []string) (all []paragraph) {
	var now *paragraph
	for i, line := range lines {
		words := strings.TrimSpace(line)
		if strings.HasPrefix(words, "Output:") { // of an Example
			return all
		}
		if words == "" {
			now = nil
			continue
		}
		if now == nil || listItem.MatchString(line) {
			all = append(all, paragraph{where: fmt.Sprintf("%s:%d", file, i+1)})
			now = &all[len(all)-1]
		}
		now.text += words + " "
	}
	return all
}

var sentenceEnd = regexp.MustCompile(`[.!?:]\s+`)

// sentences returns the sentences of a paragraph. The part behind a colon counts as a sentence.
func (p *paragraph) sentences() []string {
	text := listItem.ReplaceAllString(p.text, "")
	var all []string
	from := 0
	for _, end := range sentenceEnd.FindAllStringIndex(text, -1) {
		all, from = append(all, strings.TrimSpace(text[from:end[1]])), end[1]
	}
	return append(all, strings.TrimSpace(text[from:]))
}

func checkSentenceLength(t *tree, report func(where, what string)) {
	for _, p := range t.prose() {
		for _, s := range p.sentences() {
			if n := len(strings.Fields(s)); n > maxWords {
				report(p.where, fmt.Sprintf("a sentence has %d words: %.40s…", n, s))
			}
		}
	}
}

var bareWho = regexp.MustCompile(`^(?i:who|whom|whose)\b`)

// checkBareWho looks at each clause that stands behind a full stop, a colon or a semicolon.
func checkBareWho(t *tree, report func(where, what string)) {
	for _, p := range t.prose() {
		for _, s := range p.sentences() {
			for clause := range strings.SplitSeq(s, "; ") {
				if bareWho.MatchString(clause) && !strings.HasSuffix(s, "?") {
					report(p.where, fmt.Sprintf("begins with a bare who: %.40s…", clause))
				}
			}
		}
	}
}

// idioms are phrases that were common here, each with the plain words for it.
var idioms = []struct {
	phrase *regexp.Regexp
	plain  string
}{
	{regexp.MustCompile(`(?i)\bunder way\b`), "in progress"},
	{regexp.MustCompile(`[a-z,] anew\b`), "again"},
	{regexp.MustCompile(`(?i)\bhowever (?:often|long|many|much|old)\b`), "no matter how often, or any number of"},
	{regexp.MustCompile(`(?i)\b(?:has|have) to go back\b`), "must be refunded"},
	{regexp.MustCompile(`(?i)\bpass(?:ed|es) over\b`), "skipped, skips"},
	{regexp.MustCompile(`(?i)\bfor want of\b`), "because there is no"},
	{regexp.MustCompile(`(?i)\bin mid-\w`), "in the middle of"},
	{regexp.MustCompile(`(?i)\bwhere there (?:is|are) (?:none|no|nothing)\b`), "if there is none"},
}

// checkIdioms skips decisions and the changelog: they keep the words of their time.
func checkIdioms(t *tree, report func(where, what string)) {
	for _, p := range t.prose() {
		if strings.HasPrefix(p.where, "docs/adr/") || strings.HasPrefix(p.where, "CHANGELOG.md:") {
			continue
		}
		for _, i := range idioms {
			if said := i.phrase.FindString(p.text); said != "" {
				report(p.where, fmt.Sprintf("an idiom: %q; say %s", said, i.plain))
			}
		}
	}
}

// maxProse is how wide a line of prose may be, with tabs of four columns.
const maxProse = 100

func checkProseWidth(t *tree, report func(where, what string)) {
	for _, f := range t.texts {
		lines := strings.Split(f.text, "\n")
		var prose []string
		switch path.Ext(f.path) {
		case ".md":
			prose = pageLines(f.text)
		case ".go":
			prose = commentLines(f.text)
		case ".lua", ".sql":
			prose = dashLines(f.text)
		case ".yaml":
			if path.Base(f.path) == "openapi.yaml" {
				prose = contractLines(f.text)
			}
		}
		for i, words := range prose {
			width := utf8.RuneCountInString(strings.ReplaceAll(lines[i], "\t", "    "))
			if words != "" && width > maxProse && !strings.Contains(lines[i], "://") && strings.Contains(strings.TrimSpace(words), " ") {
				report(fmt.Sprintf("%s:%d", f.path, i+1), fmt.Sprintf("has %d columns", width))
			}
		}
	}
}

var contractText = regexp.MustCompile(`^( *)(- )?(description|summary): +(.*)$`)

// contractLines returns the text of descriptions and summaries, by line. The other lines are empty.
func contractLines(text string) []string {
	lines := strings.Split(text, "\n")
	prose := make([]string, len(lines))
	inside, indent := false, 0
	for i, line := range lines {
		blank := strings.TrimSpace(line) == ""
		if deeper := len(line) - len(strings.TrimLeft(line, " ")); inside && (blank || deeper > indent) {
			prose[i] = strings.TrimSpace(line)
			continue
		}
		inside = false
		m := contractText.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		prose[i] = m[4]
		inside, indent = true, len(m[1])+len(m[2])
	}
	return prose
}

// logCalls are the methods of *slog.Logger that write a message, by the place of the message.
var logCalls = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1,
}

// loggers are what a *slog.Logger is called here.
var loggers = []string{"log", "logger", "Log", "Logger", "root", "slog"}

func checkLogMessages(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.files {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !isLogger(method.X) {
					return true
				}
				at, known := logCalls[method.Sel.Name]
				if known && at < len(call.Args) && isPutTogether(call.Args[at]) {
					report(t.at(call), "the message of a log line is put together")
				}
				return true
			})
		}
	}
}

// isLogger reports whether an expression has the name of a logger.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return slices.Contains(loggers, x.Name)
	case *ast.SelectorExpr:
		return slices.Contains(loggers, x.Sel.Name)
	}
	return false
}

// isPutTogether reports whether a text is made at run time: by a call, or as a sum of other things
// than literals. A variable is allowed, because it is a wrapper's parameter.
func isPutTogether(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.CallExpr:
		return true
	case *ast.BinaryExpr:
		return !isLiteral(x.X) || !isLiteral(x.Y)
	}
	return false
}

func isLiteral(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.BasicLit:
		return x.Kind == token.STRING
	case *ast.BinaryExpr:
		return isLiteral(x.X) && isLiteral(x.Y)
	}
	return false
}
