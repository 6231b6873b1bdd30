package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/loadtest"
	"github.com/penstock/penstock/seckill"
)

// demo is one run of the demo: a process on embedded parts, a sale, a crowd, an audit.
type demo struct {
	config Config
	buyers int
	units  int
	seed   uint64
	stay   bool // keep serving after the audit

	out, messages             io.Writer
	outScreen, messagesScreen screen
}

func demoCommand() *cobra.Command {
	d := &demo{}
	exit := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole flash sale on this machine: shop, crowd, audit",
		Long: `Run a whole flash sale on this machine, in one process and without any server: open a sale on embedded parts in a
temporary directory, let a crowd of impatient buyers at it through HTTP, then audit the stock and show that every promise was
kept.

On a terminal the shop keeps serving afterwards, until ^C; with --exit, or where stdout is no terminal, the demo ends after the
audit. A default port that is taken is replaced by a free one. Exits 0 when the audit balances, 98 when a law is broken.

Buyers come as fast as earlier ones are answered, so a machine is full while they do; to measure on a schedule there is loadtest.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(cmd.Flags(), os.Getenv); err != nil {
				return &exitError{exitUsage, err}
			}
			d.out, d.messages = cmd.OutOrStdout(), cmd.ErrOrStderr()
			d.outScreen, d.messagesScreen = screenOf(os.Stdout, os.Getenv), screenOf(os.Stderr, os.Getenv)
			d.stay = !exit && isTerminal(os.Stdout)
			return d.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&d.buyers, "buyers", 20_000, "how many buyers come")
	flags.IntVar(&d.units, "units", 1_000, "how many units there are")
	flags.Uint64Var(&d.seed, "seed", 0, "decides what each buyer does; 0 takes a new one, which the summary names")
	flags.BoolVar(&exit, "exit", false, "end after the audit, also on a terminal")
	all := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	addConfigFlags(all)
	for _, name := range demoSettings() {
		if f := all.Lookup(name); f != nil { // the token has no flag
			flags.AddFlag(f)
		}
	}
	// Ordinary log lines would disturb the progress bar.
	if level := flags.Lookup("log-level"); level != nil {
		level.DefValue = demoLogLevel
	}
	return cmd
}

// demoSettings are the settings that apply to a demo. The others keep their defaults and ignore the
// environment, because a demo must never open its sale on the servers of a shop.
func demoSettings() []string {
	return []string{"listen", "admin-listen", "admin-token", "log-level", "log-format"}
}

// demoLogLevel is the demo's own default.
const demoLogLevel = "warn"

// maxDemoBuyers keeps a demo short.
const maxDemoBuyers = 1_000_000

// prepare reads the settings and checks the demo's own flags.
func (d *demo) prepare(flags *pflag.FlagSet, environ func(string) string) error {
	apply := make(map[string]bool)
	for _, s := range allSettings() {
		apply[s.env()] = slices.Contains(demoSettings(), s.key)
	}
	config, err := loadConfig(flags, func(name string) string {
		if apply[name] {
			return environ(name)
		}
		return ""
	})
	if err != nil {
		return err
	}
	if config.LogLevel == defaultConfig().LogLevel && !flags.Changed("log-level") {
		config.LogLevel = demoLogLevel
	}
	var errs []error
	if d.buyers < 1 || d.buyers > maxDemoBuyers {
		errs = append(errs, fmt.Errorf("flag --buyers: %d is not between 1 and %d", d.buyers, maxDemoBuyers))
	}
	if d.units < 1 || d.units > seckill.MaxItemQuantity {
		errs = append(errs, fmt.Errorf("flag --units: %d is not between 1 and %d", d.units, seckill.MaxItemQuantity))
	}
	d.config = config
	if d.seed == 0 {
		d.seed = rand.Uint64N(1 << 32) // short enough to type
	}
	return errors.Join(errs...)
}

// run runs the demo in a new directory, which is removed afterwards.
func (d *demo) run(ctx context.Context) (err error) {
	log, err := newLogger(d.config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if d.config.DataDir, err = os.MkdirTemp("", "penstock-demo-"); err != nil {
		return &exitError{exitFailure, err}
	}
	defer func() {
		if gone := os.RemoveAll(d.config.DataDir); gone != nil && err == nil {
			err = &exitError{exitFailure, gone}
		}
	}()
	lasts(ctx)
	keepsPrivate(ctx)
	d.takeFreePorts(ctx)
	token := d.config.AdminToken
	d.config.OnFirstToken = func(made string) { token = made }
	d.config.Gateway.DrainDelay = 0 // there is no load balancer
	n, err := node.Start(ctx, d.config.Config, node.RoleGateway|node.RoleWorker, log)
	if err != nil {
		return failure(err)
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.config.ShutdownTimeout)
		defer cancel()
		if stopped := n.Stop(stopCtx); stopped != nil && err == nil {
			err = &exitError{exitFailure, stopped}
		}
	}()
	return d.sell(ctx, n, token, log)
}

// sell opens the sale, lets the crowd in, and reports.
func (d *demo) sell(ctx context.Context, n *node.Node, token string, log *slog.Logger) error {
	shop := newDemoShop(n.AdminURL(), token)
	sale, err := shop.open(ctx, d.units, time.Now())
	if err != nil {
		return d.ended(ctx, err)
	}
	result, err := d.crowd(ctx, n.PublicURL(), sale)
	if err != nil {
		return d.ended(ctx, err)
	}
	audit, err := shop.audit(ctx)
	if err != nil {
		return d.ended(ctx, err)
	}
	report := demoReport{units: d.units, cores: runtime.GOMAXPROCS(0), result: result, audit: audit}
	text := report.text(d.outScreen)
	if d.stay {
		text += demoNext(n.PublicURL(), n.AdminURL(), sale.callerKey, token)
	}
	if _, err := io.WriteString(d.out, text); err != nil {
		return &exitError{exitFailure, err}
	}
	if d.stay {
		log.Info("serving until interrupted")
		select {
		case <-ctx.Done():
		case err := <-n.Failed():
			return &exitError{exitFailure, err}
		}
	}
	if broken := report.broken(); len(broken) > 0 {
		return &exitError{exitLawBroken, errors.New(strings.Join(broken, "\n"))}
	}
	return nil
}

// crowd sends the buyers and shows how far they are.
func (d *demo) crowd(ctx context.Context, url string, sale demoSale) (*loadtest.Result, error) {
	config := loadtest.DefaultConfig()
	config.Target, config.CallerKey, config.Activity, config.SKU = url, sale.callerKey, demoActivity, demoSKU
	config.Stock, config.PerUser = d.units, demoPerUser
	config.PaymentSecret, config.Price, config.Currency = sale.paymentSecret, demoPrice, demoCurrency
	config.Buyers, config.Seed = d.buyers, d.seed
	bar := newProgressBar(d.messages, d.messagesScreen)
	config.Progress = bar.show
	crowd, err := loadtest.NewCrowd(config)
	if err != nil {
		return nil, err
	}
	result, err := crowd.Run(ctx)
	bar.end()
	if err == nil && result.Interrupted {
		err = ctx.Err()
	}
	return result, errors.Join(err, bar.err)
}

// ended returns the error of a demo that ended before its audit.
func (d *demo) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{exitInterrupted, errors.New("interrupted before the audit")}
	}
	return failure(err)
}

// takeFreePorts replaces a default address whose port is taken by one with a free port, and says
// so. An address that the user chose stays: if its port is taken, that is an error.
func (d *demo) takeFreePorts(ctx context.Context) {
	defaults := defaultConfig()
	for _, l := range []struct {
		flag, usual string
		addr        *string
	}{
		{"--listen", defaults.Listen, &d.config.Listen}, {"--admin-listen", defaults.AdminListen, &d.config.AdminListen},
	} {
		if *l.addr != l.usual || !taken(ctx, l.usual) {
			continue
		}
		host, _, err := net.SplitHostPort(l.usual)
		if err != nil {
			continue // the process will report the mistake
		}
		*l.addr = net.JoinHostPort(host, "0")
		fmt.Fprintf(d.messages, "%s is taken, using a free port (%s chooses one)\n", l.usual, l.flag)
	}
}

// taken reports whether another process listens on addr.
func taken(ctx context.Context, addr string) bool {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return listener.Close() != nil
}
