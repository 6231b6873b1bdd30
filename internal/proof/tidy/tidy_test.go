package tidy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// rule is one rule of the repository.
type rule struct {
	name  string
	why   string
	check func(t *tree, report func(where, what string))
}

// rules are all of them, in the order in which a reader meets them.
var rules = []rule{
	{"top-level", "the top level names the parts of the product; a newcomer reads it first, so it grows by decision, not by accident",
		checkTopLevel},
	{"imports", "the arrows between packages are the design (ARCHITECTURE.md): who knows whom decides what can be proven alone, " +
		"replaced alone and rebuilt alone. A new arrow is an entry in policy_test.go with a reason",
		checkImports},
	{"third-party", "a dependency has one owner and an ADR: replacing it, or living through its bugs, stays one package's business. " +
		"Owners are in policy_test.go",
		checkThirdParty},
	{"dependencies", "a new module has an owner (policy_test.go) and a reason (docs/adr/0009)",
		checkDependencies},
	{"standard-library", "some packages of the standard library are a decision too: HTTP, SQL, processes and templates have owners",
		checkStandardLibrary},
	{"package-names", "a package is named after its subject; a collection of helpers has no owner",
		checkPackageNames},
	{"package-comment", "one package comment says what the package promises, what it doesn't, and its invariants; two contradict " +
		"each other sooner or later",
		checkPackageComments},
	{"doc-comment", "a reader of a call in another package reads the doc comment, not the body",
		checkDocComments},
	{"package-state", "state in package variables is shared by every Process in the binary and by every test; it is made in cmd " +
		"and handed down. Allowed are sentinels, embedded files, and values that nothing ever changes",
		checkPackageState},
	{"init", "init runs before main, in an order that the code doesn't show",
		checkInit},
	{"function-length", "a function fits a screen: 70 lines, in tests 120",
		checkFunctionLength},
	{"line-length", "a line fits a window beside another one: 140 characters, 180 in tests, whose tables are read by the row",
		checkLineLength},
	{"permissions", "a permission that nobody uses hides the picture of what stands, and lets a wrong import pass later",
		checkPermissions},
	{"glossary", "one word, one meaning: a reader who knows the table of words knows what a type of that name is",
		checkGlossary},
	{"sentence-length", "a sentence of more than forty words is read twice, or not at all; a rule with cases is a list",
		checkSentenceLength},
	{"prose-width", "prose of more than a hundred columns is hard to read, and a difference in it hard to see",
		checkProseWidth},
	{"bare-who", "a clause without a subject is hard to understand for readers with another first language",
		checkBareWho},
	{"idioms", "a reader with another first language finds an idiom in no dictionary; a plain word says the same",
		checkIdioms},
	{"log-messages", "a message is found by its text; what differs from line to line is an attribute",
		checkLogMessages},
	{"banned-calls", "some calls take a decision that belongs elsewhere; each entry of policy_test.go says which",
		checkBannedCalls},
	{"context", "a ctx is the first parameter of what may block, and never kept: a field outlives the call it bounds",
		checkContext},
	{"lua", "a script is source code: its contract on top, its keys handed in so that Cluster can route it, and its result a " +
		"function of its input",
		checkLua},
	{"generated", "a generated file without a go:generate line that names it can't be brought up to date by make generate",
		checkGenerated},
	{"machine", "the repository builds anywhere: it names no developer's machine and no registry host",
		checkMachine},
	{"unfinished", "work that is left is an issue, where people see it",
		checkUnfinished},
	{"suppressed", "a suppressed finding of a linter has a reason beside it",
		checkSuppressed},
	{"laws", "each law is a promise to merchants and buyers, and has a test named after it: TestL1_…",
		checkLaws},
	{"proofs", "a file without a test beside it looks untested, unless CONTRIBUTING.md says where its proof is",
		checkProofs},
	{"law-pages", "docs/laws.md says which tests prove a law; a test that isn't there proves nothing",
		checkLawPages},
	{"adr", "decisions are found by their number and read in the same four parts",
		checkADRs},
	{"links", "a link in the docs leads somewhere",
		checkLinks},
	{"package-map", "ARCHITECTURE.md has every package in its map",
		checkPackageMap},
	{"diagrams", "a wrong picture is worse than none: packages, states and calls are compared with the code",
		checkDiagrams},
	{"changelog", "what users notice is in CHANGELOG.md, under Unreleased until it is released",
		checkChangelog},
}

func TestTidy(t *testing.T) {
	repository, err := load(os.DirFS(filepath.Join("..", "..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	if len(repository.packages) == 0 {
		t.Fatal("no package found: is this the repository?")
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			r.check(repository, func(where, what string) { t.Errorf("%s: %s", where, what) })
			if t.Failed() {
				t.Logf("why: %s", r.why)
			}
		})
	}
}

// Each file of testdata is a small tree for the rule of its name. The comment of the archive lists
// all findings, one per line.
func TestRules_FindWhatTheyShould(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			archive, err := os.ReadFile(filepath.Join("testdata", r.name+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			findings, files := unpack(string(archive))
			bad, err := load(files)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			r.check(bad, func(where, what string) { got = append(got, fmt.Sprintf("%s: %s", where, what)) })
			slices.Sort(got)
			want := strings.Split(strings.TrimSpace(findings), "\n")
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		})
	}
}

func TestRules_EachFileOfTestdataIsARules(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".txtar")
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.name == name }) {
			t.Errorf("testdata/%s belongs to no rule", e.Name())
		}
	}
}

// unpack splits a txtar archive (golang.org/x/tools/txtar) into its comment and its files.
func unpack(archive string) (comment string, files fs.FS) {
	out := fstest.MapFS{}
	parts := marker.Split(archive, -1)
	for i, m := range marker.FindAllStringSubmatch(archive, -1) {
		out[m[1]] = &fstest.MapFile{Data: []byte(parts[i+1])}
	}
	return parts[0], out
}

var marker = regexp.MustCompile(`(?m)^-- (.+) --\n`)
