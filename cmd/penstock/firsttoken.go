package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// firstTokenFile is where the first admin token is kept until somebody takes it, in the data
// directory.
const firstTokenFile = "first-admin-token"

// tellFirstToken tells the first admin token once: to a person at a terminal, else to a file that
// nobody else can read. A log would carry it to wherever logs go.
func tellFirstToken(token, dir string, terminal io.Writer, log *slog.Logger) {
	if terminal != nil {
		if _, err := fmt.Fprintf(terminal, "first admin token, shown only now: %s\n", token); err == nil {
			return
		}
	}
	path := filepath.Join(dir, firstTokenFile)
	if err := writePrivate(path, token+"\n"); err != nil {
		log.Error("the first admin token can't be kept: set PENSTOCK_ADMIN_TOKEN, and delete the token named first",
			"component", "node", "path", path, "err", err)
		return
	}
	log.Warn("the first admin token is in a file: take it from there, and delete the file", "component", "node", "path", path)
}

// writePrivate writes a new file that its owner alone can read. One that is there is replaced.
func writePrivate(path, text string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}
