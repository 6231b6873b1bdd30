package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// finding is what a check found.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warn or fail
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

// checker collects findings.
type checker struct {
	*session
	findings []finding
}

func (c *checker) found(check, state, detail, hint string) {
	c.findings = append(c.findings, finding{check, state, detail, hint})
}

// checkCommand looks at an installation before a sale.
func checkCommand() *cobra.Command {
	var activity string
	const short = "Look at a running installation before a sale: servers, shards, nodes, limits, forgotten switches"
	cmd := command("check", short, cobra.NoArgs, false,
		func(s *session, _ []string) error {
			c := &checker{session: s}
			steps := []func() error{c.servers, c.nodes, c.limits, c.switches}
			if activity != "" {
				steps = append(steps, func() error { return c.activity(activity) })
			}
			for _, step := range steps {
				if err := step(); err != nil {
					return err
				}
			}
			return c.end()
		})
	cmd.Long = cmd.Short + `.
With --activity one sale too: its window, its merchant's callers, and items that nobody can buy or whose price looks
100 times off. Each line has a hint. Exits 1 when a check fails; a warning is none.`
	addAdminFlags(cmd)
	cmd.Flags().StringVar(&activity, "activity", "", "the sale to look at")
	return cmd
}

// end prints what was found, and fails where a check did.
func (c *checker) end() error {
	failed := 0
	for i := range c.findings {
		if c.findings[i].State == "fail" {
			failed++
		}
	}
	if c.json {
		if err := c.value(map[string]any{"checks": c.findings}); err != nil {
			return err
		}
	} else {
		lines := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		for _, f := range c.findings {
			hint := ""
			if f.State != "ok" && f.Hint != "" {
				hint = "→ " + f.Hint
			}
			if _, err := fmt.Fprintf(lines, "%s\t%s\t%s\t%s\n", f.State, f.Check, shown(f.Detail), hint); err != nil {
				return err
			}
		}
		if err := lines.Flush(); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{exitFailure, fmt.Errorf("%d of %d checks fail", failed, len(c.findings))}
	}
	return nil
}

// nodeHealth is what /readyz?verbose answers.
type nodeHealth struct {
	Ready   bool
	Servers []struct{ Server, Instance, State, Detail string }
	Shards  struct{ Open, Closed, Rebuilding int }
}

// isWell reports whether everything is as it should be. In its first second a node knows too little.
func (h *nodeHealth) isWell() bool {
	for _, server := range h.Servers {
		if server.State != "ok" {
			return false
		}
	}
	return h.Shards.Open > 0 && h.Shards.Closed+h.Shards.Rebuilding == 0
}

// healthLooks is how often a node is asked again that isn't well.
const healthLooks = 5

func (c *checker) health() (report nodeHealth, err error) {
	request, err := http.NewRequestWithContext(c.cmd.Context(), http.MethodGet, c.url+"/readyz?verbose", http.NoBody)
	if err != nil {
		return report, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return report, &exitError{exitDependency, err}
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return report, fmt.Errorf("read the answer: %w", err)
	}
	return report, nil
}

// servers asks the node how its servers and the shards do.
func (c *checker) servers() error {
	report, err := c.health()
	for range healthLooks {
		if err != nil || report.isWell() {
			break
		}
		select { // the node looks once a second
		case <-c.cmd.Context().Done():
			return c.cmd.Context().Err()
		case <-time.After(time.Second / 2):
		}
		report, err = c.health()
	}
	if err != nil {
		return err
	}
	state := map[bool]string{true: "ok", false: "fail"}
	can := map[bool]string{true: "the node can answer buyers", false: "the node can't answer buyers"}
	c.found("readiness", state[report.Ready], can[report.Ready], "ask /readyz what is missing")
	for _, server := range report.Servers {
		name := strings.TrimSpace(server.Server + " " + server.Instance)
		is := map[string]string{"ok": "ok", "degraded": "warn"}[server.State]
		c.found(name, cmp.Or(is, "fail"), strings.TrimSpace(server.State+" "+server.Detail), "look at this server's own log")
	}
	shut := report.Shards.Closed + report.Shards.Rebuilding
	counts := fmt.Sprintf("%d open, %d closed, %d being rebuilt", report.Shards.Open, report.Shards.Closed, report.Shards.Rebuilding)
	c.found("shards", state[shut == 0], counts, "wait until the rebuild is done; a worker must be running")
	return nil
}

// nodes asks which nodes have the newest limits and switches in force.
func (c *checker) nodes() error {
	text, _, err := c.call(c.cmd.Context(), get("settings"))
	if err != nil {
		return err
	}
	var doc struct {
		Nodes []struct{ Node, State string }
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var behind []string
	for _, n := range doc.Nodes {
		if n.State != "current" {
			behind = append(behind, n.Node+" is "+n.State)
		}
	}
	if len(behind) > 0 {
		c.found("nodes", "warn", strings.Join(behind, ", "), "see ctl settings show: such a node can't reach the database, or was stopped")
		return nil
	}
	c.found("nodes", "ok", fmt.Sprintf("%d, all with the newest limits and switches", len(doc.Nodes)), "")
	return nil
}

func (c *checker) limits() error {
	text, _, err := c.call(c.cmd.Context(), get("limits"))
	if err != nil {
		return err
	}
	var doc struct{ Policies []struct{ Name, Mode string } }
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var idle []string
	for _, p := range doc.Policies {
		if p.Mode != "enforce" {
			idle = append(idle, p.Name+" is "+p.Mode)
		}
	}
	switch {
	case len(doc.Policies) == 0:
		c.found("limits", "warn", "there are none", "without a limit per user one program can take all attempts: ctl limits put")
	case len(idle) > 0:
		c.found("limits", "warn", strings.Join(idle, ", "), "a policy that isn't enforced refuses nobody")
	default:
		c.found("limits", "ok", fmt.Sprintf("%d policies, all enforced", len(doc.Policies)), "")
	}
	return nil
}

// switches names those that are set: one that was forgotten spoils a sale.
func (c *checker) switches() error {
	set, err := (&plan{session: c.session}).setSwitches()
	if err != nil {
		return err
	}
	for _, is := range set {
		name := switchKey(fmt.Sprint(is["name"]), is["scope"])
		detail := fmt.Sprintf("%s: %v since %v by %v: %v", name, is["value"], is["since"], is["by"], is["reason"])
		c.found("switch", "warn", detail, "take it out where it was forgotten: ctl switches set NAME -")
	}
	if len(set) == 0 {
		c.found("switches", "ok", "none is set", "")
	}
	return nil
}

// checkedActivity is what the check of a sale reads of it.
type checkedActivity struct {
	Merchant string
	State    string
	StartsAt time.Time `json:"starts_at"`
	EndsAt   time.Time `json:"ends_at"`
	Items    []struct {
		SKU      string
		Price    int64
		Currency string
		Quantity int64
	}
}

func (c *checker) activity(id string) error {
	text, _, err := c.call(c.cmd.Context(), get("activities", id))
	if err != nil {
		return err
	}
	var a checkedActivity
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	c.window(&a)
	callers, err := (&plan{session: c.session}).callersOf(a.Merchant)
	if err != nil {
		return err
	}
	buyers := slices.ContainsFunc(callers, func(caller map[string]any) bool {
		return strings.Contains(fmt.Sprint(caller["rights"]), "buy")
	})
	if buyers {
		c.found("callers", "ok", fmt.Sprintf("%s has %d", a.Merchant, len(callers)), "")
	} else {
		c.found("callers", "fail", a.Merchant+" has none that may buy", "ctl callers add "+a.Merchant+" NAME --rights buy")
	}
	c.goods(&a)
	return nil
}

// window looks at the state of a sale beside its times.
func (c *checker) window(a *checkedActivity) {
	now := time.Now()
	switch {
	case a.State == "ended" || !now.Before(a.EndsAt):
		c.found("window", "fail", "the sale is over", "clone it: ctl activities clone")
	case a.State == "draft":
		c.found("window", "fail", "it is a draft: nobody can buy", "ctl activities publish")
	case a.State == "paused":
		c.found("window", "warn", "it is paused", "ctl activities resume")
	case now.Before(a.StartsAt):
		c.found("window", "ok", "published, starts in "+a.StartsAt.Sub(now).Round(time.Second).String(), "")
	default:
		c.found("window", "ok", "it is selling, and ends in "+a.EndsAt.Sub(now).Round(time.Second).String(), "")
	}
	if length := a.EndsAt.Sub(a.StartsAt); length > 366*24*time.Hour {
		c.found("length", "warn", fmt.Sprintf("the sale lasts %d days", int(length.Hours()/24)), "is the year of ends_at right?")
	}
}

// farOff is how many times the median a price must be to look wrong: 100 is a price in major units.
const farOff = 50

// goods looks for items that nobody can buy, and for prices that look 100 times off.
func (c *checker) goods(a *checkedActivity) {
	prices := make(map[string][]int64)
	empty := 0
	for _, item := range a.Items {
		prices[item.Currency] = append(prices[item.Currency], item.Price)
		if item.Quantity == 0 {
			empty++
			if empty <= 10 {
				c.found("stock", "warn", item.SKU+" has no units", "ctl stock restock")
			}
		}
	}
	for _, list := range prices {
		slices.Sort(list)
	}
	odd := 0
	for _, item := range a.Items {
		list := prices[item.Currency]
		median := list[len(list)/2]
		if item.Price == 0 || len(list) > 2 && (item.Price*farOff <= median || item.Price >= median*farOff) {
			if odd++; odd <= 10 {
				detail := fmt.Sprintf("%s costs %s, others %s", item.SKU, money(item.Price, item.Currency), money(median, item.Currency))
				c.found("price", "warn", detail, "prices are in minor units: ctl activities edit-item before the start")
			}
		}
	}
	if empty == 0 && odd == 0 {
		c.found("items", "ok", fmt.Sprintf("%d, all with units and prices alike", len(a.Items)), "")
	}
}

// money writes an amount for people, in the currency's major unit (ISO 4217).
func money(minor int64, currency string) string {
	digits := 2
	switch currency {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF":
		digits = 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		digits = 3
	}
	text := fmt.Sprintf("%0*d", digits+1, minor)
	if digits > 0 {
		text = text[:len(text)-digits] + "." + text[len(text)-digits:]
	}
	return text + " " + currency
}
