package problem

import (
	"strconv"
	"strings"
)

// The pages explain a problem's type, which logs and answers name. The HTML is written by hand:
// html/template would keep the linker from dropping unused methods of the whole program, and the
// pages show only the catalogue.

const pageHead = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>`

const pageStyle = `</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
h2 { margin-bottom: .25rem; font-size: 1rem; }
p, dl { margin-top: 0; }
code { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; vertical-align: top; }
</style>
</head>
<body>
`

const pageFoot = "</body>\n</html>\n"

// PageHTML returns the entry's page as HTML that needs no other file.
func (e *Entry) PageHTML() []byte {
	var b strings.Builder
	b.WriteString(pageHead)
	writeEscaped(&b, e.Title)
	b.WriteString(" – ")
	writeEscaped(&b, string(e.Code))
	b.WriteString(pageStyle)
	b.WriteString("<p><a href=\"/problems\">All problems</a></p>\n<h1>")
	writeEscaped(&b, e.Title)
	b.WriteString("</h1>\n<p><code>")
	writeEscaped(&b, string(e.Code))
	b.WriteString("</code>, HTTP status ")
	b.WriteString(strconv.Itoa(e.Status))
	b.WriteString(", ")
	b.WriteString(e.retryWords())
	b.WriteString("</p>\n")
	for _, part := range e.parts() {
		b.WriteString("<h2>")
		writeEscaped(&b, part.heading)
		b.WriteString("</h2>\n<p>")
		writeEscaped(&b, part.text)
		b.WriteString("</p>\n")
	}
	b.WriteString(pageFoot)
	return []byte(b.String())
}

// PageText returns the entry's page as plain text.
func (e *Entry) PageText() []byte {
	var b strings.Builder
	b.WriteString(e.Title + "\n" + string(e.Code) + ", HTTP status " + strconv.Itoa(e.Status) + ", " + e.retryWords() + "\n")
	for _, part := range e.parts() {
		b.WriteString("\n" + part.heading + "\n" + part.text + "\n")
	}
	return []byte(b.String())
}

// IndexHTML returns the list of all pages as HTML that needs no other file.
func IndexHTML() []byte {
	var b strings.Builder
	b.WriteString(pageHead + "Problems" + pageStyle)
	b.WriteString("<h1>Problems</h1>\n<p>Every answer of the API that isn't a success is one of these.</p>\n")
	b.WriteString("<table>\n<tr><th>Status</th><th>Code</th><th>Meaning</th></tr>\n")
	for i := range entries {
		e := &entries[i]
		b.WriteString("<tr><td>" + strconv.Itoa(e.Status) + "</td><td><a href=\"/problems/")
		writeEscaped(&b, string(e.Code))
		b.WriteString("\"><code>")
		writeEscaped(&b, string(e.Code))
		b.WriteString("</code></a></td><td>")
		writeEscaped(&b, e.Title)
		b.WriteString("</td></tr>\n")
	}
	b.WriteString("</table>\n" + pageFoot)
	return []byte(b.String())
}

// IndexText returns the list of all pages as plain text.
func IndexText() []byte {
	var b strings.Builder
	for i := range entries {
		e := &entries[i]
		b.WriteString(strconv.Itoa(e.Status) + " /problems/" + string(e.Code) + " – " + e.Title + "\n")
	}
	return []byte(b.String())
}

type pagePart struct{ heading, text string }

func (e *Entry) parts() []pagePart {
	return []pagePart{{"What it means", e.Detail}, {"What a client should do", e.Client}, {"What an operator should look at", e.Ops}}
}

func (e *Entry) retryWords() string {
	if e.Retryable {
		return "the same request may succeed later"
	}
	return "repeating the same request doesn't help"
}

// writeEscaped writes s as HTML text; it is safe in an attribute's double quotes too.
func writeEscaped(b *strings.Builder, s string) {
	for _, r := range s {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '"':
			b.WriteString("&#34;")
		case '\'':
			b.WriteString("&#39;")
		default:
			b.WriteRune(r)
		}
	}
}
