package tidy

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

func checkTopLevel(t *tree, report func(where, what string)) {
	for _, e := range t.top {
		if _, ok := topLevel[e.Name()]; !ok {
			report(e.Name(), "does not belong at the top level")
		}
	}
}

func checkImports(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		a, listed := arrows[p.dir]
		if !listed {
			report(p.dir, "is not in the list of packages")
			continue
		}
		for _, f := range p.all() {
			for to, spec := range f.imports() {
				to, ours := strings.CutPrefix(to, module+"/")
				if !ours {
					continue
				}
				switch {
				case !f.test && slices.Contains(testPackages, to) && !slices.Contains(testPackages, p.dir):
					report(t.at(spec), to+" is for tests")
				case f.test && slices.Contains(testPackages, to):
				case to == p.dir: // an external test
				case slices.Contains(a.may, to) || slices.Contains(a.may, everything):
				case f.test && slices.Contains(a.tests, to):
				default:
					report(t.at(spec), fmt.Sprintf("%s may not import %s: %s", p.dir, to, a.why))
				}
			}
		}
	}
}

// checkPermissions looks for unused permissions, because a reader takes each permission for a
// decision.
func checkPermissions(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		a := arrows[p.dir]
		uses := func(to string, test bool) bool {
			return slices.ContainsFunc(p.all(), func(f *goFile) bool {
				_, imported := f.imports()[module+"/"+to]
				return imported && (test || !f.test || slices.Contains(testPackages, p.dir))
			})
		}
		for _, to := range a.may {
			if to != everything && !uses(to, false) {
				report(p.dir, "may import "+to+", and no product file does")
			}
		}
		for _, to := range a.tests {
			if to != everything && !uses(to, true) {
				report(p.dir, "may import "+to+" in tests, and no test does")
			}
		}
		checkOwned(p, report)
	}
}

// checkOwned looks for modules that a package owns and doesn't import.
func checkOwned(p *pkg, report func(where, what string)) {
	for _, prefix := range slices.Sorted(maps.Keys(owners)) {
		o := owners[prefix]
		if !slices.Contains(o.owners, p.dir) && !slices.Contains(o.tests, p.dir) {
			continue
		}
		imported := slices.ContainsFunc(p.all(), func(f *goFile) bool {
			for to := range f.imports() {
				if to == prefix || strings.HasPrefix(to, prefix+"/") {
					return true
				}
			}
			return false
		})
		if !imported {
			report(p.dir, "may import "+prefix+", and does not")
		}
	}
}

func checkThirdParty(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.all() {
			for to, spec := range f.imports() {
				first, _, _ := strings.Cut(to, "/")
				if !strings.Contains(first, ".") || strings.HasPrefix(to, module+"/") {
					continue // ours, or the standard library
				}
				o, ok := ownerOf(to)
				switch {
				case !ok:
					report(t.at(spec), to+" has no owner")
				case !o.allows(p.dir, f.test):
					report(t.at(spec), fmt.Sprintf("%s may not import %s (%s), it is for %s", p.dir, to, o.why, o))
				}
			}
		}
	}
}

// checkDependencies looks at the modules that go.mod requires directly: each has an owner and a
// place in docs/adr/0009.
func checkDependencies(t *tree, report func(where, what string)) {
	const page = "docs/adr/0009-dependencies.md"
	mod, _ := t.text("go.mod")
	choices, ok := t.text(page)
	if !ok {
		report(page, "is missing")
	}
	for i, line := range strings.Split(mod, "\n") {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) != 2 || !strings.Contains(fields[0], ".") || !strings.HasPrefix(fields[1], "v") {
			continue // not a requirement, or an indirect one
		}
		where, name := fmt.Sprintf("go.mod:%d", i+1), fields[0]
		if _, ok := ownerOf(name); !ok {
			report(where, name+" has no owner")
		}
		if dir, last := path.Split(name); majorVersion.MatchString(last) {
			name = path.Clean(dir)
		}
		if name = strings.TrimPrefix(name, "github.com/"); !strings.Contains(choices, "`"+name+"`") {
			report(where, name+" is not in "+page)
		}
	}
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// ownerOf returns the entry with the longest matching prefix of an import path.
func ownerOf(importPath string) (owner, bool) {
	for at := importPath; at != "." && at != "/"; at = path.Dir(at) {
		if o, ok := owners[at]; ok {
			return o, true
		}
	}
	for prefix, o := range owners { // libopenapi-validator goes with libopenapi
		if strings.HasPrefix(importPath, prefix+"-") {
			return o, true
		}
	}
	return owner{}, false
}

func (o owner) allows(dir string, test bool) bool {
	if slices.Contains(o.owners, dir) || slices.Contains(o.owners, everything) {
		return true
	}
	return (test || slices.Contains(testPackages, dir)) && (slices.Contains(o.tests, dir) || slices.Contains(o.tests, everything))
}

// String lists the packages that may.
func (o owner) String() string {
	who := slices.Clone(o.owners)
	for _, dir := range o.tests {
		if dir == everything {
			who = append(who, "tests")
		} else {
			who = append(who, "tests of "+dir)
		}
	}
	if len(who) == 0 {
		return "nobody"
	}
	return strings.Join(who, ", ")
}

func checkStandardLibrary(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		for _, f := range p.files {
			for to, spec := range f.imports() {
				if o, ok := standard[to]; ok && !o.allows(p.dir, false) {
					report(t.at(spec), fmt.Sprintf("%s may not import %s: %s", p.dir, to, o.why))
				}
			}
		}
	}
}

// grabBags are names that say nothing about what a package is about.
var grabBags = []string{
	"util", "utils", "common", "helper", "helpers", "manager", "base", "types", "misc", "shared", "lib", "pkg", "core", "models",
}

func checkPackageNames(t *tree, report func(where, what string)) {
	for _, p := range t.packages {
		if slices.Contains(grabBags, path.Base(p.dir)) || slices.Contains(grabBags, p.name) {
			report(p.dir, fmt.Sprintf("the name %s says nothing", p.name))
		}
		if p.name != "main" && p.name != path.Base(p.dir) {
			report(p.dir, "package "+p.name+" is not named after its directory")
		}
		if p.name == "main" && path.Dir(p.dir) != "cmd" {
			report(p.dir, "commands are in cmd")
		}
		names := map[string]bool{}
		for _, f := range p.files {
			names[f.ast.Name.Name] = true
		}
		if len(names) > 1 {
			report(p.dir, "has packages "+strings.Join(slices.Sorted(maps.Keys(names)), ", "))
		}
	}
}
