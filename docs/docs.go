// Package docs has the pages for people that the program itself shows. They are what is in this
// directory, and nothing else is.
package docs

import _ "embed"

// Runbook is runbook.md: what to do, an entry for each thing that may wake somebody.
//
//go:embed runbook.md
var Runbook []byte
