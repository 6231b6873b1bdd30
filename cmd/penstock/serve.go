package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/node"
)

func serveCommand() *cobra.Command {
	return roleCommand(node.RoleGateway|node.RoleWorker, "serve", "Run everything in one process: gateway, worker and admin listener",
		`Run everything in one process: the public listener, the workers and the admin listener. Without --redis, --kafka and
--database it works on embedded parts that are kept in --data-dir, and survives kill -9 and a restart with nothing lost.

The first start makes an admin token and prints it once, unless PENSTOCK_ADMIN_TOKEN sets one.`)
}

func gatewayCommand() *cobra.Command {
	return roleCommand(node.RoleGateway, "gateway", "Run a gateway, which answers buyers; needs Redis, Kafka and PostgreSQL",
		`Run the half of penstock that answers buyers: the public listener and the admin listener. It needs --redis, --kafka and
--database, and "penstock worker" processes on the same ones. Any number of gateways may run.

A gateway starts while a server is away: with the catalog that it has kept in --data-dir it sells as soon as Redis and
Kafka answer. Without one it waits for the database, and /readyz answers 503 until then.`)
}

func workerCommand() *cobra.Command {
	return roleCommand(node.RoleWorker, "worker", "Run a worker, which makes the orders; needs Redis, Kafka and PostgreSQL",
		`Run the half of penstock that turns accepted purchases into orders, ends them, gives stock back and rebuilds it, with an
admin listener of its own. It needs --redis, --kafka and --database. Any number of workers may run.`)
}

// roleCommand makes the command that serves in one role.
func roleCommand(role node.Role, use, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if role != node.RoleGateway|node.RoleWorker && !config.Real() {
				return &exitError{exitUsage, fmt.Errorf("%s needs --redis, --kafka and --database", use)}
			}
			return serve(cmd.Context(), config, role, cmd.OutOrStdout())
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

// serve runs a process until ctx ends or it can't go on, then stops it.
func serve(ctx context.Context, config Config, role node.Role, out io.Writer) error {
	log, err := newLogger(config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	told := config
	told.LogLevel = defaultConfig().LogLevel // always tell where the first token is, whatever the log level
	shown, err := newLogger(told)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	config.OnFirstToken = func(token string) {
		var terminal io.Writer
		if isTerminal(os.Stderr) {
			terminal = os.Stderr
		}
		tellFirstToken(token, config.DataDir, terminal, shown)
	}
	lasts(ctx)
	keepsPrivate(ctx)
	defer keepHeapRoom(ctx)()
	n, err := node.Start(ctx, config.Config, role, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped before it was ready", "component", "node", "err", err)
		return nil
	}
	if err != nil {
		return failure(err)
	}
	if short := config.ShortToken(); short != "" {
		log.Warn("not for production", "component", "node", "what", short)
	}
	log.Info("serving", "component", "node", "public", n.PublicURL(), "admin", n.AdminURL())
	addresses := "admin " + n.AdminURL() + "\n"
	if public := n.PublicURL(); public != "" {
		addresses = "public " + public + "\n" + addresses
	}
	if _, err := io.WriteString(out, addresses); err != nil {
		log.Warn("addresses not printed", "component", "node", "err", err)
	}
	var failed error
	select {
	case <-ctx.Done():
		log.Info("stopping", "component", "node", "timeout", config.ShutdownTimeout)
	case failed = <-n.Failed():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.ShutdownTimeout)
	defer cancel()
	if err := n.Stop(stopCtx); err != nil && failed == nil {
		failed = err
	}
	if failed != nil {
		return failure(failed)
	}
	log.Info("stopped", "component", "node")
	return nil
}

// failure gives an error its exit code, if it has none.
func failure(err error) error {
	var coded *exitError
	var fault *node.FaultError
	switch {
	case errors.As(err, &coded):
		return &exitError{coded.code, err}
	case errors.As(err, &fault) && fault.Settings:
		return &exitError{exitUsage, err}
	case errors.As(err, &fault):
		return &exitError{exitDependency, err}
	}
	return &exitError{exitFailure, err}
}
