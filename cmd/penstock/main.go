// Command penstock is the flash-sale and inventory gateway: its servers, its tools and its demo in
// one binary.
//
// This package is the only one that reads flags, environment and configuration files. It has
// commands, help and exit codes; package node joins the parts.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDependency  = 4
	exitLawBroken   = 98
	exitInterrupted = 130
)

func main() {
	ctx, signals := catchSignals(context.Background(), os.Exit)
	code := run(ctx, rootCommand(), os.Args[1:])
	if signals.got.Load() != 0 && !signals.patient.Load() && code != exitOK {
		code = signals.code() // the signal is the cause, so the error doesn't matter
	}
	os.Exit(code)
}

// run executes a command and returns its exit code; the error is one line on stderr per mistake.
func run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := askedUnknown(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(root.ErrOrStderr(), "penstock: %s\n", shown(line))
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitUsage // cobra's own errors: unknown command, unknown flag, bad value
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "penstock",
		Short: "Flash-sale and inventory gateway",
		Long: `Penstock stands between a sale's crowd and a shop's stock: it answers every buyer in milliseconds, sells each
unit once, and hands the workers behind it a stream they can take.

Settings come from flags, the environment (PENSTOCK_…) and a YAML file (--config); flags win over the
environment, the environment over the file.`,
		Version:       version(),
		Args:          onlyCommands,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(serveCommand(), gatewayCommand(), workerCommand(), migrateCommand(), demoCommand(), loadtestCommand(), auditCommand(),
		checkCommand(), topCommand(), ctlCommand(), configCommand(), healthcheckCommand(), versionCommand())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // cobra shows the help for an unknown shell, and succeeds
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.Args = onlyCommands
		}
	}
	root.SetVersionTemplate("penstock {{.Version}}\n")
	root.SetHelpCommand(helpCommand(root))
	root.SetFlagErrorFunc(unknownFlag)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "penstock", version())
			return err
		},
	}
}

// release and commit are set by the linker if the Go toolchain sees no repository, as in the
// Dockerfile: -ldflags "-X main.release=v1.2.3 -X main.commit=…".
var release, commit string

// version describes this build: its version, its commit and its Go version. The Go toolchain
// records them, or the linker sets them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	number, revision, modified := cmp.Or(release, info.Main.Version), commit, ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = " (modified)"
			}
		}
	}
	if revision != "" {
		revision = " " + revision[:min(12, len(revision))]
	}
	return number + revision + modified + " " + info.GoVersion
}

// parseLevel reads a log level.
func parseLevel(s string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil || strings.ContainsAny(s, "+-") {
		return 0, fmt.Errorf("log-level: %q is not debug, info, warn or error", s)
	}
	return level, nil
}

// newLogger makes a logger that writes to stderr; stdout is for data.
func newLogger(c Config) (*slog.Logger, error) {
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
}
