package console

import (
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestConsole_PageNamesWhatThereIs(t *testing.T) {
	c := New(Config{OIDC: true})
	page := string(c.Page().Body)
	if !strings.Contains(page, `data-oidc="yes"`) || strings.Contains(string(New(Config{}).Page().Body), `data-oidc="yes"`) {
		t.Error("it doesn't say whether people may log in by OpenID Connect")
	}
	for _, m := range regexp.MustCompile(`/console/([0-9a-f]+)/([^"]+)"`).FindAllStringSubmatch(page, -1) {
		f, current := c.File(m[1], m[2])
		if f == nil || !current {
			t.Errorf("%s isn't there, or not current", m[0])
		}
	}
	if f, current := c.File("older", "app.js"); f == nil || current || c.Version() == "older" {
		t.Error("a file of another version is current, or none")
	}
}

// TestAssets_AskNobodyElse: the scripts load nothing from other hosts, never run a text as code,
// and never turn a text into markup.
func TestAssets_AskNobodyElse(t *testing.T) {
	imports := regexp.MustCompile(`(?m)(?:\}\s*from|^import uPlot from|^import htm from|^import)\s*['"]([^'"]+)['"]`)
	err := fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".js" && path.Ext(name) != ".css" && path.Ext(name) != ".html" {
			return err
		}
		text := must(assets.ReadFile(name))
		own := !strings.Contains(name, "/vendor/")
		for _, m := range imports.FindAllStringSubmatch(string(text), -1) {
			if _, err := fs.Stat(assets, path.Join(path.Dir(name), m[1])); !strings.HasPrefix(m[1], "./") || err != nil {
				t.Errorf("%s imports %s", name, m[1])
			}
		}
		for _, word := range []string{"innerHTML", "dangerouslySet", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "http://", "https://", "@import"} {
			if own && bytes.Contains(text, []byte(word)) {
				t.Errorf("%s has %s", name, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFile_GzipIsSmaller(t *testing.T) {
	c := New(Config{})
	f, _ := c.File(c.Version(), "vendor/uplot.js")
	if f == nil || f.Gzip == nil || len(f.Gzip) >= len(f.Body) || !bytes.HasPrefix(f.Gzip, []byte{0x1f, 0x8b}) {
		t.Error("the largest file isn't compressed")
	}
}
