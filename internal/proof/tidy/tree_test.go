package tidy

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// tree is a repository as the rules see it. It is read only.
type tree struct {
	fset     *token.FileSet
	top      []fs.DirEntry
	texts    []textFile // every text file, in order of path
	packages []*pkg     // every directory with Go files, in order of dir
}

// textFile is a file of the tree that is text.
type textFile struct {
	path string
	text string
}

// pkg is a directory of Go files. Its test files are part of it, those of package x_test in
// external.
type pkg struct {
	dir      string // from the repository's root, with slashes: "seckill"
	name     string
	files    []*goFile // product files
	internal []*goFile // test files of the same package
	external []*goFile // test files of package x_test
}

// goFile is a parsed file.
type goFile struct {
	path  string
	text  string
	test  bool
	ast   *ast.File
	names *types.Info // the objects of its identifiers, as far as they are known without the imported packages
}

// all returns the files of a package, tests too.
func (p *pkg) all() []*goFile { return slices.Concat(p.files, p.internal, p.external) }

// tests returns its test files.
func (p *pkg) tests() []*goFile { return slices.Concat(p.internal, p.external) }

// find returns the package in dir, or nil.
func (t *tree) find(dir string) *pkg {
	for _, p := range t.packages {
		if p.dir == dir {
			return p
		}
	}
	return nil
}

// text returns a file's text, and whether it exists.
func (t *tree) text(name string) (string, bool) {
	for _, f := range t.texts {
		if f.path == name {
			return f.text, true
		}
	}
	return "", false
}

// at returns path:line of a node.
func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// load reads a repository. Files that git ignores are left out, if .gitignore lists them by a name
// or a suffix.
func load(fsys fs.FS) (*tree, error) {
	ignored, err := ignoredNames(fsys)
	if err != nil {
		return nil, err
	}
	t := &tree{fset: token.NewFileSet()}
	dirs := map[string]*pkg{}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case name == ".git" || ignored(name):
			return skip(d)
		case path.Dir(name) == ".":
			t.top = append(t.top, d)
		}
		if d.IsDir() {
			return nil
		}
		return t.read(fsys, name, dirs)
	})
	if err != nil {
		return nil, err
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		p := dirs[dir]
		t.packages = append(t.packages, p)
		t.resolve(p.dir, slices.Concat(p.files, p.internal))
		t.resolve(p.dir+"_test", p.external)
	}
	return t, nil
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// read takes up one file.
func (t *tree) read(fsys fs.FS, name string, dirs map[string]*pkg) error {
	data, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile: a temporary file
	}
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil
	}
	t.texts = append(t.texts, textFile{name, string(data)})
	if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
		return nil
	}
	parsed, err := parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	f := &goFile{path: name, text: string(data), test: strings.HasSuffix(name, "_test.go"), ast: parsed}
	dir := path.Dir(name)
	if dirs[dir] == nil {
		dirs[dir] = &pkg{dir: dir}
	}
	p := dirs[dir]
	switch {
	case f.test && strings.HasSuffix(parsed.Name.Name, "_test"):
		p.external = append(p.external, f)
	case f.test:
		p.internal = append(p.internal, f)
	default:
		p.files = append(p.files, f)
		p.name = parsed.Name.Name
	}
	if p.name == "" {
		p.name = strings.TrimSuffix(parsed.Name.Name, "_test")
	}
	return nil
}

// resolve finds the objects of the identifiers in a package's files. Imports are not followed:
// objects of other packages stay unknown, except the package name itself.
func (t *tree) resolve(name string, files []*goFile) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{
		Importer: noImports{},
		Error:    func(error) {}, // expected: nothing is imported
	}
	parsed := make([]*ast.File, len(files))
	for i, f := range files {
		parsed[i], f.names = f.ast, info
	}
	_, _ = conf.Check(name, t.fset, parsed, info) // the same errors again
}

// noImports has no package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not followed") }

// ignoredNames understands the part of .gitignore that ours uses: names at the root, and suffixes.
func ignoredNames(fsys fs.FS) (func(string) bool, error) {
	data, err := fs.ReadFile(fsys, ".gitignore")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := strings.Fields(string(data))
	return func(name string) bool {
		for _, line := range lines {
			if rooted, ok := strings.CutPrefix(line, "/"); ok {
				if name == strings.TrimSuffix(rooted, "/") {
					return true
				}
			} else if ok, err := path.Match(line, path.Base(name)); err == nil && ok {
				return true
			}
		}
		return false
	}, nil
}

// selected returns the import path of the package and the name in an expression like os.Exit, or
// "".
func (f *goFile) selected(e ast.Expr) (importPath, name string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	if pkgName, ok := f.names.Uses[id].(*types.PkgName); ok {
		return pkgName.Imported().Path(), sel.Sel.Name
	}
	return "", ""
}

// imports returns the paths that a file imports, with their places.
func (f *goFile) imports() map[string]*ast.ImportSpec {
	out := make(map[string]*ast.ImportSpec, len(f.ast.Imports))
	for _, spec := range f.ast.Imports {
		out[strings.Trim(spec.Path.Value, `"`)] = spec
	}
	return out
}

// generated reports whether a tool wrote the file.
func (f *goFile) generated() bool { return ast.IsGenerated(f.ast) }
