package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/penstock/penstock/internal/atomicfile"
)

// firstTokenFile is the file in the data directory that has the first admin token, until the
// operator takes it.
const firstTokenFile = "first-admin-token"

// tellFirstToken shows the first admin token once: on a terminal, or else in a file that only the
// user can read. It is never logged, because logs are copied to other places.
func tellFirstToken(token, dir string, terminal io.Writer, log *slog.Logger) {
	if terminal != nil {
		if _, err := fmt.Fprintf(terminal, "first admin token, shown only now: %s\n", token); err == nil {
			return
		}
	}
	path := filepath.Join(dir, firstTokenFile)
	if err := atomicfile.Write(path, []byte(token+"\n"), 0o600); err != nil {
		log.Error("the first admin token can't be written to a file: set PENSTOCK_ADMIN_TOKEN, and delete the token named first",
			"component", "node", "path", path, "err", err)
		return
	}
	log.Warn("the first admin token is in a file: take it from there, and delete the file", "component", "node", "path", path)
}
