package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// confirm asks before something that can't be undone. Without a terminal nobody can answer: then --yes is
// needed.
func (s *session) confirm(question string) error {
	in, ok := s.cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return &exitError{exitUsage, fmt.Errorf("%s Nobody can be asked here: say --yes", question)}
	}
	if _, err := fmt.Fprintf(s.cmd.ErrOrStderr(), "%s [y/N] ", shown(question)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return &exitError{exitFailure, errors.New("nothing was changed")}
}
