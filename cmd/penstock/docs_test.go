package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// foreignFlags are flags in the docs that belong to other programs, such as helm and docker.
var foreignFlags = map[string]bool{
	"help": true, "from-literal": true, "from-file": true, "offline": true, "now": true, "read-only": true, "cap-drop": true, "build": true, "for": true,
}

// foreignNames are names in the docs that look like metrics or settings and are neither: database
// roles, and variables of tests and scripts.
var foreignNames = map[string]bool{
	"penstock_owner": true, "penstock_app": true, "PENSTOCK_PUBLIC": true, "PENSTOCK_TEST_SERVERS": true,
}

var (
	docFlag     = regexp.MustCompile(`(?:^|[\s` + "`" + `(])--([a-z][a-z0-9-]+)`)
	docMetric   = regexp.MustCompile(`\bpenstock_[a-z0-9_]+`)
	docVariable = regexp.MustCompile(`\bPENSTOCK_[A-Z_]+`)
	docCtl      = regexp.MustCompile(`\bctl ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+(?:-[a-z]+)*))?`)
)

// TestDocs_NameWhatThereIs: every flag, variable, metric and ctl command that a page names exists.
func TestDocs_NameWhatThereIs(t *testing.T) {
	metrics := declaredMetrics(t)
	flags, variables, commands := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, s := range allSettings() {
		variables[s.env()] = true
	}
	walkCommands(rootCommand(), func(cmd *cobra.Command) {
		commands[cmd.CommandPath()] = len(cmd.Commands()) > 0
		for _, set := range []*pflag.FlagSet{cmd.NonInheritedFlags(), cmd.InheritedFlags()} {
			set.VisitAll(func(f *pflag.Flag) {
				flags[f.Name] = true
				for _, name := range docVariable.FindAllString(f.Usage, -1) {
					variables[name] = true
				}
			})
		}
	})
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docFlag.FindAllStringSubmatch(string(text), -1) {
			if !flags[m[1]] && !foreignFlags[m[1]] {
				t.Errorf("%s: there is no flag --%s", page, m[1])
			}
		}
		for _, name := range docMetric.FindAllString(string(text), -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
			if _, ok := metrics[base]; !ok && !foreignNames[name] {
				t.Errorf("%s: there is no metric %s", page, name)
			}
		}
		for _, name := range docVariable.FindAllString(string(text), -1) {
			if !variables[name] && !foreignNames[name] {
				t.Errorf("%s: there is no variable %s", page, name)
			}
		}
		for _, m := range docCtl.FindAllStringSubmatch(string(text), -1) {
			group, known := commands["penstock ctl "+m[1]]
			_, whole := commands["penstock ctl "+m[1]+" "+m[2]]
			if !known || group && m[2] != "" && !whole {
				t.Errorf("%s: there is no command %s", page, m[0])
			}
		}
	}
}

// docPages returns the paths of the pages for people. The generated ones are left out, and so are
// the decisions, which describe their own time.
func docPages(t *testing.T) (pages []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			t.Fatalf("no page is like %s: %v", pattern, err)
		}
		for _, page := range found {
			if filepath.Base(page) != "CHANGELOG.md" {
				pages = append(pages, page)
			}
		}
	}
	return pages
}
