package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// watchEvery is how often --watch looks.
const watchEvery = 2 * time.Second

// watch repeats a command until ^C, and prints its output whenever it has changed. On a terminal it
// replaces the output before. It goes on while the server can't be reached.
func (s *session) watch(run func(*session, []string) error, args []string) error {
	ctx := s.cmd.Context()
	out, on := s.out, screenOf(os.Stdout, os.Getenv)
	messages := s.cmd.ErrOrStderr()
	if out != io.Writer(os.Stdout) {
		on = screen{}
	}
	var last []byte
	for away := false; ; {
		var text bytes.Buffer
		s.cmd.SetErr(&text)
		again := &session{s.adminClient, &printer{&text, s.json}, s.cmd}
		err := run(again, args)
		s.cmd.SetErr(messages)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (last == nil || codeOf(err) != exitDependency):
			return err
		case err != nil && !away:
			away = true
			if err := s.note("%v; trying again", err); err != nil {
				return err
			}
		case err == nil && (away || !bytes.Equal(text.Bytes(), last)):
			away, last = false, text.Bytes()
			if err := show(out, on, last); err != nil {
				return err
			}
		}
		if !wait.For(ctx, watchEvery) {
			return nil
		}
	}
}

// show prints a text. On a terminal it replaces the text before.
func show(out io.Writer, on screen, text []byte) error {
	head := ""
	if on.redraws {
		head = ansiClear + time.Now().Format(time.RFC3339) + "\n"
	}
	_, err := fmt.Fprintf(out, "%s%s", head, text)
	return err
}
