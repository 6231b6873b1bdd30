package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unknownCommand returns the error for a word that is no command of cmd. It names the nearest
// command.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	if near := nearest(word, names); near != "" {
		return fmt.Errorf("unknown command %q%s See %s --help", word, near, cmd.CommandPath())
	}
	return fmt.Errorf("unknown command %q for %q: see %s --help", word, cmd.CommandPath(), cmd.CommandPath())
}

// onlyCommands refuses arguments of a command that only has subcommands.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(cmd, args[0])
}

// askedUnknown returns an error if args ask for the help of an unknown command. cobra would print
// the help of the parent command, and succeed.
func askedUnknown(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	root.InitDefaultHelpCmd() // cobra would add it only when it runs
	cmd, rest, err := root.Find(args)
	if err != nil || !cmd.HasSubCommands() {
		return nil //nolint:nilerr // cobra reports it
	}
	help := slices.ContainsFunc(rest, func(arg string) bool { return arg == "--help" || arg == "-h" || arg == "--help=true" })
	if word := firstWord(cmd, rest); help && word != "" {
		return unknownCommand(cmd, word)
	}
	return nil
}

// firstWord returns the first argument that is neither a flag nor the value of a flag.
func firstWord(cmd *cobra.Command, args []string) string {
	takesValue := func(f *pflag.Flag) bool { return f != nil && f.NoOptDefVal == "" }
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--" && i+1 < len(args):
			return args[i+1]
		case strings.HasPrefix(arg, "--"):
			if !strings.Contains(arg, "=") && takesValue(cmd.Flag(arg[2:])) {
				i++
			}
		case len(arg) > 1 && arg[0] == '-':
			f := cmd.Flags().ShorthandLookup(arg[1:2])
			if f == nil {
				f = cmd.InheritedFlags().ShorthandLookup(arg[1:2])
			}
			if len(arg) == 2 && takesValue(f) {
				i++
			}
		default:
			return arg
		}
	}
	return ""
}

// unknownFlag adds the nearest flag to pflag's error about an unknown flag.
func unknownFlag(cmd *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("%w%s", err, strings.Replace(near, `"`, `"--`, 1))
	}
	return err
}

// helpCommand is cobra's help command, except that an unknown topic is an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd, args[len(args)-max(len(rest), 1)])
			}
			return cmd.Help()
		},
	}
}
