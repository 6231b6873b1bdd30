package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run everything in one process: gateway, workers, admin",
		Long: `Run everything in one process: the public listener, the workers and the admin listener, on embedded parts that
are kept in --data-dir. It survives kill -9 and a restart with nothing lost.

The first start makes an admin token and prints it once, unless PENSTOCK_ADMIN_TOKEN sets one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), config, cmd.OutOrStdout())
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// serve runs a process until ctx ends or a listener fails, then stops it.
func serve(ctx context.Context, config Config, out io.Writer) error {
	log, err := newLogger(config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	p, err := startProcess(ctx, config, log)
	if err != nil {
		return failure(err)
	}
	if p.firstToken != "" {
		log.Info("first admin token, shown only now", "token", p.firstToken)
	}
	log.Info("ready", "public", p.PublicURL(), "admin", p.AdminURL(), "data", config.DataDir)
	if _, err := fmt.Fprintf(out, "public %s\nadmin %s\n", p.PublicURL(), p.AdminURL()); err != nil {
		log.Warn("addresses not printed", "err", err)
	}
	var failed error
	select {
	case <-ctx.Done():
		log.Info("stopping", "timeout", config.ShutdownTimeout)
	case failed = <-p.Failed():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.ShutdownTimeout)
	defer cancel()
	if err := p.Stop(stopCtx); err != nil && failed == nil {
		failed = err
	}
	if failed != nil {
		return &exitError{exitFailure, failed}
	}
	log.Info("stopped")
	return nil
}

// failure gives an error without an exit code the one of an ordinary failure.
func failure(err error) error {
	var coded *exitError
	if errors.As(err, &coded) {
		return &exitError{coded.code, err}
	}
	return &exitError{exitFailure, err}
}
