package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/loadtest"
	"github.com/penstock/penstock/seckill"
)

// exitSLOMissed is the exit code of a load test whose --slo was missed.
const exitSLOMissed = 99

// The names of the files in a load test's directory.
const (
	summaryFile = "summary.json"
	reportFile  = "report.html"
)

func loadtestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "loadtest",
		Short: "Send a load on schedule, check every promise, and report",
		Long: `Send purchases to a shop on a schedule that is fixed in advance, whatever the answers do, and count latency from the
time at which each was due: a shop that stalls is charged for everybody who would have come meanwhile.

The rate counts departures: purchases, double clicks and repeats with the same key among them, and looks at the sale's page
(--browse). Polls, payments and cancellations follow accepted orders and come on top. Nothing is sent again because an
answer says so, but payments and cancellations are.

Afterwards every order that was named is read back, and the answers are judged: nothing oversold (with --stock or --admin), no
accepted order lost, one order per key, no buyer over the limit. DIR gets summary.json (its JSON Schema: --schema) and
report.html, after ^C too.

Exits 98 with the proof when an invariant does not hold, 99 when an --slo was missed, when more than --max-errors of the requests
were errors, when no purchase was accepted, or when every payment or cancellation ended in an error, 130 after ^C, and 4 when
nobody listens, or nobody answered when orders were read back.
A load generator that was the bottleneck itself says so on stderr and in the report.`,
		Example: `  penstock loadtest --target http://127.0.0.1:8080 --caller-key psk_… --activity 618 --sku phone-x \
    --rate 5000/s --duration 30s --users 100000 --slo 'p99(accepted)<50ms, error_rate<0.1%' --out report
  penstock loadtest --scenario rush.yaml --stages '0@0s,5000@10s,5000@30s'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q: values of --poll and --browse are written --poll=50%%", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema, err := cmd.Flags().GetBool("schema"); err != nil || schema {
				_, err := cmd.OutOrStdout().Write(loadtest.SummarySchema())
				return err
			}
			t, err := prepareLoadTest(cmd)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return t.run(cmd.Context())
		},
	}
	addLoadFlags(cmd.Flags())
	cmd.AddCommand(compareCommand())
	return cmd
}

// loadTest is one run of the command.
type loadTest struct {
	loadOptions
	command string // the command that repeats the run, without secrets
	json    bool
	bar     *loadBar

	out, messages io.Writer
	screen        screen
}

func prepareLoadTest(cmd *cobra.Command) (*loadTest, error) {
	flags := cmd.Flags()
	t := &loadTest{
		loadOptions: defaultLoadOptions(), out: cmd.OutOrStdout(), messages: cmd.ErrOrStderr(), screen: screenOf(os.Stdout, os.Getenv),
	}
	if err := t.read(cmd, os.Getenv); err != nil {
		return nil, err
	}
	format, err := flags.GetString("output")
	if err != nil {
		return nil, err
	}
	if t.json = format == "json"; !t.json && format != "table" {
		return nil, fmt.Errorf("flag --output: %q is neither table nor json", format)
	}
	if t.config.Seed == 0 {
		t.config.Seed = rand.Uint64N(1<<32-1) + 1 // short enough to type
	}
	t.command = commandLine(flags, t.config.Seed)
	t.bar = newLoadBar(t.messages, screenOf(os.Stderr, os.Getenv))
	t.config.Progress = t.bar.show
	if err := t.config.Validate(); err != nil {
		var errs []error
		for _, one := range node.Apart(err) {
			errs = append(errs, t.located(one))
		}
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// commandLine returns the command that repeats a run; it takes secrets from the environment.
func commandLine(flags *pflag.FlagSet, seed uint64) string {
	words := []string{"penstock", "loadtest"}
	flags.Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			switch env := secretEnv[f.Name]; {
			case f.Name == "seed" || f.Name == "schema":
			case env != "":
				words = append(words, "--"+f.Name+`="$`+env+`"`)
			default:
				words = append(words, "--"+f.Name+"="+quoteWord(value))
			}
		}
	})
	return strings.Join(append(words, fmt.Sprintf("--seed=%d", seed)), " ")
}

// secretEnv are the flags whose values must not be shown, with their environment variables.
var secretEnv = map[string]string{
	"caller-key": "PENSTOCK_CALLER_KEY", "payment-secret": "PENSTOCK_PAYMENT_SECRET", "admin-token": envAdminToken,
}

// quoteWord writes a word for a POSIX shell.
func quoteWord(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=%@+", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// run sends the load and writes the report.
func (t *loadTest) run(ctx context.Context) error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return &exitError{exitUsage, fmt.Errorf("flag --out: %w", err)}
	}
	books, err := t.booksBefore(ctx)
	if err != nil {
		return failure(err)
	}
	lasts(ctx)
	load, err := loadtest.NewLoad(t.config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	card := loadtest.RunCard{
		Command: t.command, Version: version(), Started: time.Now().UTC().Truncate(time.Second), Targets: t.config.Targets,
		Sales: t.activities, Users: t.config.Users, Seed: t.config.Seed,
		OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
	result, err := load.Run(ctx)
	t.bar.end()
	switch {
	case errors.Is(err, loadtest.ErrSale):
		return &exitError{exitFailure, err}
	case err != nil:
		return &exitError{exitDependency, err}
	}
	summary := loadtest.NewSummary(result, append(t.slos, t.errorSLO()...), card)
	if books != nil {
		after, err := books.after(ctx)
		if err != nil {
			summary.Warnings = append(summary.Warnings, fmt.Sprintf("the server's audit could not be read: %v", err))
		} else {
			summary.Audit(after, t.config.Quantity, ctx.Err() == nil)
		}
	}
	if err := t.write(summary); err != nil {
		return &exitError{exitFailure, err}
	}
	return t.verdict(summary)
}

// write writes the files and prints the summary.
func (t *loadTest) write(s *loadtest.Summary) error {
	text, err := s.JSON()
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		text []byte
	}{{summaryFile, text}, {reportFile, s.HTML()}} {
		if err := atomicfile.Write(filepath.Join(t.dir, file.name), file.text, 0o644); err != nil {
			return err
		}
	}
	if !t.json {
		text = []byte(loadSummary(s, t.screen, t.dir))
	}
	if _, err := t.out.Write(text); err != nil {
		return err
	}
	return t.bar.err
}

// verdict returns the error with which the command ends, after it has printed the warnings.
func (t *loadTest) verdict(s *loadtest.Summary) error {
	for _, w := range s.Warnings {
		if _, err := fmt.Fprintf(t.messages, "penstock: warning: %s\n", shown(w)); err != nil {
			return &exitError{exitFailure, err}
		}
	}
	var broken, missed []error
	for _, i := range s.Invariants {
		if !i.Held {
			broken = append(broken, fmt.Errorf("invariant %s does not hold: %s", i.Name, i.Detail))
		}
	}
	for _, slo := range s.SLOs {
		if !slo.Met {
			missed = append(missed, fmt.Errorf("slo missed: %s, measured %s", slo.SLO, slo.Measured))
		}
	}
	switch s.Verdict {
	case loadtest.Broken:
		return &exitError{exitLawBroken, errors.Join(append(broken, missed...)...)}
	case loadtest.Missed:
		return &exitError{exitSLOMissed, errors.Join(missed...)}
	case loadtest.Nothing:
		return &exitError{exitSLOMissed, fmt.Errorf("%s; nothing was tested: the report has the first answers", s.NothingOf())}
	case loadtest.Unread:
		return &exitError{exitDependency, fmt.Errorf("%s could not be read back, because the server didn't answer; they are not judged",
			seckill.Counted(s.Unread, "order"))}
	case loadtest.Interrupted:
		return &exitError{exitInterrupted, errors.New("interrupted: the report covers the requests that were sent before")}
	}
	return nil
}

// shopBooks reads the server's audits of the items that the load buys.
type shopBooks struct {
	client *adminClient
	items  []loadtest.Item
}

// booksBefore reads the audit, if an admin listener is named. The audit has the stock and the items
// of a sale.
func (t *loadTest) booksBefore(ctx context.Context) (*shopBooks, error) {
	if t.admin == "" {
		return nil, nil //nolint:nilnil // without an admin listener there are no books
	}
	urls, err := adminURLs(t.admin, t.where("admin"))
	if err != nil {
		return nil, err
	}
	b := &shopBooks{client: newClient(urls, t.adminToken, 30*time.Second)}
	audits := make(map[string][]itemAudit)
	for _, activity := range t.activities {
		if audits[activity], err = b.read(ctx, activity); err != nil {
			return nil, fmt.Errorf("audit before the load: %w", err)
		}
	}
	for _, item := range t.config.Items {
		found := false
		for i := range audits[item.Activity] {
			a := &audits[item.Activity][i]
			if item.SKU != "" && item.SKU != a.SKU {
				continue
			}
			found = true
			one := item
			one.SKU = a.SKU
			if item.Stock == 0 {
				// Units that others hold now may come back. Sold units don't.
				one.Known, one.Stock, one.Available = true, int(a.Total-a.Sold), int(a.Available)
			}
			if !slices.ContainsFunc(b.items, func(i loadtest.Item) bool { return i.String() == one.String() }) {
				b.items = append(b.items, one)
			}
		}
		if !found {
			return nil, fmt.Errorf("audit before the load: activity %s has no item %s", item.Activity, item.SKU)
		}
	}
	t.config.Items = b.items
	return b, nil
}

// read returns an activity's audit.
func (b *shopBooks) read(ctx context.Context, activity string) ([]itemAudit, error) {
	var audit activityAudit
	if _, err := b.client.read(ctx, &audit, get("activities", activity, "audit")); err != nil {
		return nil, err
	}
	for i := range audit.Items {
		if audit.Items[i].Rebuilding {
			return nil, &exitError{exitDependency, fmt.Errorf("%s/%s: its stock is being rebuilt", activity, audit.Items[i].SKU)}
		}
	}
	return audit.Items, nil
}

// books returns the audits of the items.
func (b *shopBooks) books(ctx context.Context) ([]loadtest.Books, error) {
	audits := make(map[string][]itemAudit)
	out := make([]loadtest.Books, 0, len(b.items))
	for _, item := range b.items {
		if _, there := audits[item.Activity]; !there {
			var err error
			if audits[item.Activity], err = b.read(ctx, item.Activity); err != nil {
				return nil, err
			}
		}
		found := slices.IndexFunc(audits[item.Activity], func(a itemAudit) bool { return a.SKU == item.SKU })
		if found < 0 {
			return nil, fmt.Errorf("activity %s has no item %s any more", item.Activity, item.SKU)
		}
		a := &audits[item.Activity][found]
		out = append(out, loadtest.Books{
			Item: item.String(), Total: a.Total, Available: a.Available, Held: a.Held, Sold: a.Sold, InFlight: a.InFlight, Balanced: a.Balanced,
		})
	}
	return out, nil
}

// afterInterrupt is how long to wait for the audit after an interrupted load.
const afterInterrupt = 2 * time.Second

// after waits until nothing is in flight, at most for the time that L3 allows, and returns the
// audit of that moment.
func (b *shopBooks) after(ctx context.Context) ([]loadtest.Books, error) {
	within := auditWithin
	if ctx.Err() != nil {
		within = afterInterrupt
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	look := time.NewTicker(auditEvery)
	defer look.Stop()
	var last []loadtest.Books
	for {
		books, err := b.books(ctx)
		switch {
		case err == nil && !slices.ContainsFunc(books, func(one loadtest.Books) bool { return !one.Settled() }):
			return books, nil
		case err == nil:
			last = books
		case last == nil:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return last, nil
		case <-look.C:
		}
	}
}
