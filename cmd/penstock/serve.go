package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	return roleCommand(RoleGateway|RoleWorker, "serve", "Run everything in one process: gateway, workers, admin",
		`Run everything in one process: the public listener, the workers and the admin listener. Without --redis, --kafka and
--database it works on embedded parts that are kept in --data-dir, and survives kill -9 and a restart with nothing lost.

The first start makes an admin token and prints it once, unless PENSTOCK_ADMIN_TOKEN sets one.`)
}

func gatewayCommand() *cobra.Command {
	return roleCommand(RoleGateway, "gateway", "Run the half that answers buyers, on real servers",
		`Run the half of penstock that answers buyers: the public listener and the admin listener. It needs --redis, --kafka and
--database, and "penstock worker" processes on the same ones. Any number of gateways may run.`)
}

func workerCommand() *cobra.Command {
	return roleCommand(RoleWorker, "worker", "Run the half that makes orders, on real servers",
		`Run the half of penstock that turns accepted purchases into orders, ends them, gives stock back and rebuilds it, with an
admin listener of its own. It needs --redis, --kafka and --database. Any number of workers may run.`)
}

// roleCommand makes the command of a role.
func roleCommand(role Role, use, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if role != RoleGateway|RoleWorker && !config.real() {
				return &exitError{exitUsage, fmt.Errorf("%s needs --redis, --kafka and --database", use)}
			}
			return serve(cmd.Context(), config, role, cmd.OutOrStdout())
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// serve runs a process until ctx ends or a listener fails, then stops it.
func serve(ctx context.Context, config Config, role Role, out io.Writer) error {
	log, err := newLogger(config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	lasts(ctx)
	keepsPrivate(ctx)
	p, err := startRole(ctx, config, role, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped before it was ready", "err", err)
		return nil
	}
	if err != nil {
		return failure(err)
	}
	if p.firstToken != "" {
		told := config
		told.LogLevel = defaultConfig().LogLevel // whatever else is told
		shown, err := newLogger(told)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		shown.Info("first admin token, shown only now", "token", p.firstToken)
	}
	if short := config.shortToken(); short != "" {
		log.Warn("not for production", "what", short)
	}
	log.Info("ready", "public", p.PublicURL(), "admin", p.AdminURL())
	addresses := "admin " + p.AdminURL() + "\n"
	if p.public != nil {
		addresses = "public " + p.PublicURL() + "\n" + addresses
	}
	if _, err := io.WriteString(out, addresses); err != nil {
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
