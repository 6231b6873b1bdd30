package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstTokenIsInNoLog(t *testing.T) {
	const token = "pst_made-at-the-first-start"
	var log, terminal bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))

	tellFirstToken(token, t.TempDir(), &terminal, logger)
	if !strings.Contains(terminal.String(), token) || log.Len() > 0 {
		t.Errorf("a terminal sees %q, the log %q", terminal.String(), log.String())
	}

	dir := t.TempDir()
	path := filepath.Join(dir, firstTokenFile)
	if err := os.WriteFile(path, []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	tellFirstToken(token, dir, nil, logger)
	text, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(text) != token+"\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %q, mode %v (%v)", text, info.Mode(), err)
	}
	if !strings.Contains(log.String(), path) || strings.Contains(log.String(), token) {
		t.Errorf("log: %s", log.String())
	}

	log.Reset()
	tellFirstToken(token, filepath.Join(dir, "missing"), nil, logger)
	if !strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), token) {
		t.Errorf("where there is no directory: %s", log.String())
	}
}
