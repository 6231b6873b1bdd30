// Package docs has the pages for people that the program itself shows, as files of this directory.
package docs

import _ "embed"

// Runbook is runbook.md: what to do, with an entry for each kind of alarm.
//
//go:embed runbook.md
var Runbook []byte
