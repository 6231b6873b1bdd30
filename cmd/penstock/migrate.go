package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock/penstock/internal/postgres"
)

// migratePause is the pause between two attempts to reach the database.
const migratePause = 250 * time.Millisecond

// migrateCommand brings the schema of a database up to date.
func migrateCommand() *cobra.Command {
	var dryRun, forgetKafka bool
	cmd := &cobra.Command{
		Use:   "migrate --database URL",
		Short: "Bring the schema of the PostgreSQL database up to date",
		Long: `Bring the schema of the PostgreSQL database up to date, and print what was done; with --dry-run, print the SQL that would be
run, and change nothing. Migrating a database that is up to date does nothing; several who migrate at once do it one
after another.

The gateway and the worker do the same at their start. Migrate by hand where they run with a role that may not change
the schema: see docs/production.md.

A database is bound to the Kafka cluster and the topic that its first worker reached; processes that find others stop. Where
Kafka has moved, with all its records, run this with --forget-kafka: the next worker binds the database again.

Exits 4 when the database can't be reached within --wait.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := migrateConfig(cmd.Flags(), os.Getenv)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), config.Wait)
			defer cancel()
			err = migrate(cmd.Context(), ctx.Done(), config, dryRun, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err != nil || !forgetKafka {
				return err
			}
			return forget(cmd.Context(), config, dryRun, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	defaults := defaultConfig()
	flags.String("config", "", "YAML file of settings (environment: PENSTOCK_CONFIG)")
	for _, s := range migrateSettings() {
		help := s.help + " (environment: " + s.env() + ")"
		switch p := s.value(&defaults).(type) {
		case *string:
			flags.String(s.key, *p, help)
		case *time.Duration:
			flags.Duration(s.key, *p, help)
		case *int:
			flags.Int(s.key, *p, help)
		}
	}
	flags.BoolVar(&dryRun, "dry-run", false, "print the migrations that would run, and change nothing")
	flags.BoolVar(&forgetKafka, "forget-kafka", false, "unbind the database from its Kafka cluster: Kafka has moved, with all its records")
	return cmd
}

// forget unbinds the database from its Kafka cluster.
func forget(ctx context.Context, config Config, dryRun bool, out io.Writer) error {
	if dryRun {
		_, err := fmt.Fprintln(out, "-- would unbind the database from its Kafka cluster")
		return err
	}
	cluster, err := postgres.ForgetKafka(ctx, config.Database)
	switch {
	case err != nil:
		return failure(fmt.Errorf("database: %w", err))
	case cluster == "":
		_, err = fmt.Fprintln(out, "the database was bound to no Kafka cluster")
	default:
		_, err = fmt.Fprintf(out, "the database is no longer bound to the Kafka cluster %s: the next worker binds it to its own\n", cluster)
	}
	return err
}

// migrateSettings are the settings that a migration needs.
func migrateSettings() []setting {
	var needed []setting
	for _, s := range allSettings() {
		if s.key == "database" || s.key == "wait" || s.key == "shards" {
			needed = append(needed, s)
		}
	}
	return needed
}

// migrateConfig reads the file, the environment and the flags as loadConfig does, but needs only a
// database.
func migrateConfig(flags *pflag.FlagSet, environ func(string) string) (Config, error) {
	config := defaultConfig()
	var errs []error
	file := environ("PENSTOCK_CONFIG")
	if f := flags.Lookup("config"); f.Changed {
		file = f.Value.String()
	}
	if file != "" {
		errs = append(errs, applyFile(&config, file, make(map[string]string))...)
	}
	for _, s := range migrateSettings() {
		if text := environ(s.env()); text != "" {
			errs = append(errs, s.set(&config, text))
		}
		if f := flags.Lookup(s.key); f.Changed {
			errs = append(errs, s.set(&config, f.Value.String()))
		}
	}
	if config.Database == "" {
		errs = append(errs, errors.New("database: is required"))
	} else if err := (&postgres.Config{URL: config.Database}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("database: %w", err))
	}
	if config.Wait < 0 {
		errs = append(errs, errors.New("wait: must not be below zero"))
	}
	return config, errors.Join(errs...)
}

// migrate migrates. If the database can't be reached, it tries again until patience ends.
func migrate(ctx context.Context, patience <-chan struct{}, config Config, dryRun bool, out, messages io.Writer) error {
	for told := false; ; told = true {
		err := postgres.Migrate(ctx, config.Database, config.Shards, dryRun, out)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil || !postgres.Unreachable(err):
			return failure(fmt.Errorf("database: %w", err))
		case !told:
			fmt.Fprintf(messages, "penstock: waiting for the database: %v\n", err)
		}
		pause := time.NewTimer(migratePause)
		select {
		case <-pause.C:
		case <-patience:
			pause.Stop()
			return &exitError{exitDependency, fmt.Errorf("database: %w", err)}
		}
	}
}
