// Package console serves the pages with which people run a sale in a browser. They are the files in
// assets.
//
//	c := console.New(console.Config{OIDC: true})
//	page := c.Page()                      // the one page; everything else is loaded by it
//	f, current := c.File(version, name)   // a script, a style, a picture; f is nil where there is none
//
// There is no build step: the files are ES modules and a stylesheet. The page names them with a
// version, a hash of all files, so that a browser may cache them for ever. The scripts ask the
// admin API like any other client, and have no rights of their own: the API checks every role.
//
// A Console is safe for concurrent use. The files that it returns are shared and must not be
// changed.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed assets
var assets embed.FS

// Policy is the content security policy of the page: scripts and styles come only from this
// listener, nothing is inline, no other page may frame it, and no text becomes markup.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Base is the path of the files; their version follows it.
const Base = "/console/"

// Config has the options of the page.
type Config struct {
	OIDC bool // people may log in by OpenID Connect
}

// File is something that a browser loads.
type File struct {
	Type string // its content type
	Tag  string // a hash of the content, without quotes
	Body []byte
	Gzip []byte // the compressed content; nil if that is not smaller
}

// Console has all files, ready to serve.
type Console struct {
	cfg  Config
	load func() *loaded
}

// loaded has the files after the first request.
type loaded struct {
	version string
	page    *File
	files   map[string]*File
}

// New makes a console. The files are compressed at the first request.
func New(cfg Config) *Console {
	c := &Console{cfg: cfg}
	c.load = sync.OnceValue(c.read)
	return c
}

// Page returns the page.
func (c *Console) Page() *File { return c.load().page }

// Version returns the hash of all files.
func (c *Console) Version() string { return c.load().version }

// File returns a file of the console, or nil. current means that version is the current one, so a
// browser may cache the file for ever.
func (c *Console) File(version, name string) (f *File, current bool) {
	all := c.load()
	return all.files[name], version == all.version
}

// types are the content types of the files in assets. Files of other types are not served.
var types = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml",
}

// pageName is the file of the page itself. Its text has the placeholders below.
const pageName = "assets/page.html"

// The placeholders of the page, and their values.
const (
	markVersion  = "{{version}}"
	markOIDC     = "{{oidc}}"
	markPreloads = "{{preloads}}"
)

func (c *Console) read() *loaded {
	all := &loaded{files: make(map[string]*File)}
	hash := sha256.New()
	var names []string
	page := must(assets.ReadFile(pageName))
	hash.Write(page)
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		kind := types[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		body := must(assets.ReadFile(name))
		name = strings.TrimPrefix(name, "assets/")
		hash.Write([]byte(name))
		hash.Write(body)
		all.files[name] = newFile(kind, body)
		names = append(names, name)
		return nil
	})
	must(0, err)
	all.version = hex.EncodeToString(hash.Sum(nil)[:8])
	all.page = newFile("text/html; charset=utf-8", c.fill(page, all.version, names))
	return all
}

// fill writes the page. It names all scripts as preloads, so that a browser fetches them at once.
func (c *Console) fill(page []byte, version string, names []string) []byte {
	var preloads bytes.Buffer
	slices.Sort(names)
	for _, name := range names {
		if path.Ext(name) == ".js" {
			preloads.WriteString(`<link rel="modulepreload" href="` + Base + version + "/" + name + "\">\n")
		}
	}
	oidc := "no"
	if c.cfg.OIDC {
		oidc = "yes"
	}
	return []byte(strings.NewReplacer(markVersion, version, markOIDC, oidc, markPreloads+"\n", preloads.String()).Replace(string(page)))
}

func newFile(kind string, body []byte) *File {
	sum := sha256.Sum256(body)
	f := &File{Type: kind, Tag: hex.EncodeToString(sum[:8]), Body: body}
	var small bytes.Buffer
	w := must(gzip.NewWriterLevel(&small, gzip.BestCompression))
	must(w.Write(body))
	must(0, w.Close())
	if small.Len() < len(body) {
		f.Gzip = small.Bytes()
	}
	return f
}

// must returns v. It panics on an error, which can only be a mistake of the build: reading embedded
// files and writing to buffers can't fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic("console: " + err.Error())
	}
	return v
}
