package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// asks adds the flag --yes. Without it, the command asks before it does something that can't be
// undone.
func asks(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().Bool("yes", false, "don't ask")
	return cmd
}

// sure asks for confirmation, unless --yes is given.
func (s *session) sure(question string) error {
	if yes, err := s.cmd.Flags().GetBool("yes"); err != nil || yes {
		return err
	}
	return s.confirm(question)
}

// confirm asks before something that can't be undone. Without a terminal it fails: then --yes is
// needed.
func (s *session) confirm(question string) error {
	in, ok := s.cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return &exitError{exitUsage, fmt.Errorf("%s This needs a terminal, or --yes", question)}
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
