package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// auditCommand makes the commands penstock audit and ctl audit, which check the stock of a running
// server.
func auditCommand() *cobra.Command {
	cmd := auditItems("audit [ACTIVITY...]")
	addAdminFlags(cmd)
	return cmd
}

// itemAudit is an item's stock equation, as the admin API answers it.
type itemAudit struct {
	SKU        string `json:"sku"`
	Total      int64  `json:"total"`
	Available  int64  `json:"available"`
	Held       int64  `json:"held"`
	Sold       int64  `json:"sold"`
	Balanced   bool   `json:"balanced"`
	InFlight   int64  `json:"in_flight"`
	Rebuilding bool   `json:"rebuilding"`
}

// verdict is the equation's outcome in one word.
func (a *itemAudit) verdict() string {
	switch {
	case a.Rebuilding:
		return "rebuilding"
	case !a.Balanced:
		return "BROKEN"
	case a.InFlight > 0:
		return "in flight"
	}
	return "balanced"
}

// activityAudit is an activity's audit: the JSON text, and the same decoded.
type activityAudit struct {
	raw      json.RawMessage
	Activity string      `json:"activity"`
	Items    []itemAudit `json:"items"`
}

func auditItems(use string) *cobra.Command {
	var deep, mend bool
	cmd := command(use, "Print the stock equation of every sale item; exit 98 when one does not hold", cobra.ArbitraryArgs, true,
		func(s *session, args []string) error {
			switch {
			case mend && !deep:
				return &exitError{exitUsage, errors.New("flag --mend: needs --deep")}
			case deep && len(args) > 0:
				return &exitError{exitUsage, errors.New("flag --deep: it audits everything, so don't name activities")}
			case deep:
				return s.deepAudit(mend)
			}
			audits, err := s.audit(args)
			if err != nil {
				return err
			}
			if err := s.printAudits(audits); err != nil {
				return err
			}
			return verdict(audits)
		})
	cmd.Long = `Print the stock equation total = available + held + sold of every sale item, or of the named activities' items. Total is
the database's; available, held and sold are the stock's. Units in flight are on their way between the two.

With --deep every order is read instead. What the rows add up to is compared with the counters and digests of the
database, these with the stock, item by item, and the workers' positions with the queue. With --mend, which needs a
token of role admin, counters and digests are set to what the rows say, and a shard whose stock differs is rebuilt.
Rows that break a law are left for a person.

Exits 98 when an equation does not hold or something is wrong and was not mended, 4 when the server can't be reached
or an item's stock is being rebuilt, so that nothing can be said of it yet.`
	cmd.Flags().BoolVar(&deep, "deep", false, "read every order, and compare rows, counters, stock and queue")
	cmd.Flags().BoolVar(&mend, "mend", false, "with --deep: repair what is safe to repair")
	return cmd
}

// audit asks for the audits of the named activities, or of all.
func (s *session) audit(names []string) ([]activityAudit, error) {
	ctx := s.cmd.Context()
	if len(names) == 0 {
		items, err := s.adminClient.list(ctx, "after", 0, "activities")
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			var a struct {
				Activity string `json:"activity"`
			}
			if err := json.Unmarshal(item, &a); err != nil {
				return nil, fmt.Errorf("read the answer: %w", err)
			}
			names = append(names, a.Activity)
		}
	}
	audits := make([]activityAudit, len(names))
	for i, name := range names {
		text, _, err := s.call(ctx, get("activities", name, "audit"))
		if err != nil {
			return nil, err
		}
		audits[i].raw = text
		if err := json.Unmarshal(text, &audits[i]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
	}
	return audits, nil
}

func (s *session) printAudits(audits []activityAudit) error {
	if s.json {
		raw := make([]json.RawMessage, len(audits))
		for i := range audits {
			raw[i] = audits[i].raw
		}
		return s.value(map[string]any{"balanced": verdict(audits) == nil, "activities": raw})
	}
	lines := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := fmt.Fprintln(lines, "ACTIVITY\tSKU\tTOTAL\t=\tAVAILABLE\t+\tHELD\t+\tSOLD\tIN FLIGHT\tVERDICT\t"); err != nil {
		return err
	}
	for i := range audits {
		for j := range audits[i].Items {
			a := &audits[i].Items[j]
			if _, err := fmt.Fprintf(lines, "%s\t%s\t%d\t=\t%d\t+\t%d\t+\t%d\t%d\t%s\t\n",
				shown(audits[i].Activity), shown(a.SKU), a.Total, a.Available, a.Held, a.Sold, a.InFlight, a.verdict()); err != nil {
				return err
			}
		}
	}
	return lines.Flush()
}

// verdict returns an error that names the items whose equation doesn't hold, or can't be checked.
func verdict(audits []activityAudit) error {
	var broken, unknown []error
	for i := range audits {
		for j := range audits[i].Items {
			a := &audits[i].Items[j]
			name := audits[i].Activity + "/" + a.SKU
			switch {
			case a.Rebuilding:
				unknown = append(unknown, fmt.Errorf("%s: its stock is being rebuilt, ask again", name))
			case !a.Balanced:
				broken = append(broken, fmt.Errorf("%s: the stock equation does not hold: total %d, available %d, held %d, sold %d, in flight %d",
					name, a.Total, a.Available, a.Held, a.Sold, a.InFlight))
			}
		}
	}
	return audited(broken, unknown)
}

// audited makes the error at the end of an audit. broken has the failed equations, and unknown has
// what couldn't be checked.
func audited(broken, unknown []error) error {
	switch {
	case len(broken) > 0:
		return &exitError{exitLawBroken, errors.Join(append(broken, unknown...)...)}
	case len(unknown) > 0:
		return &exitError{exitDependency, errors.Join(unknown...)}
	}
	return nil
}
