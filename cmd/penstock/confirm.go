package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// asks gives a command the flag without which it asks before it does what can't be undone.
func asks(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("yes", false, "don't ask")
	return cmd
}

// sure asks, unless --yes was said.
func (s *session) sure(question string) error {
	if yes, err := s.cmd.Flags().GetBool("yes"); err != nil || yes {
		return err
	}
	return s.confirm(question)
}

// confirm asks before something that can't be undone. Without a terminal nobody can answer: then
// --yes is needed.
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
