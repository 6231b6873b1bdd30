package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// finding is the result of one check.
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
	var activity, load string
	const short = "Look at a running installation before a sale: servers, shards, nodes, limits, forgotten switches"
	cmd := command("check", short, cobra.NoArgs, false,
		func(s *session, _ []string) error {
			c := &checker{session: s}
			steps := []checkStep{{"servers", c.servers}, {"nodes", c.nodes}, {"limits", c.limits}, {"switches", c.switches}}
			if activity != "" { // with a sale, its preflight checks all of these too
				steps = []checkStep{{"sale", func() error { return c.preflight(activity) }}}
			}
			if load != "" {
				if activity == "" {
					return &exitError{exitUsage, errors.New("flag --loadtest: needs --activity, the sale of the load test")}
				}
				steps = append(steps, checkStep{"load test", func() error { return c.loadTest(activity, load) }})
			}
			for i := range steps {
				if err := c.take(&steps[i]); err != nil {
					return err
				}
			}
			return c.end()
		})
	cmd.Long = cmd.Short + `.
With --activity one sale: its window, its merchant's callers, items that nobody can buy or whose price looks
100 times off, limits, switches and nodes as they are for it, and whether the servers have room for it. Each line has a
hint. With --loadtest its limits are compared with what a load test achieved: one that is lower refuses what was tried,
one that is four times as high lets in what never was. Exits 1 when a check fails; a warning is none. The server is
asked: what it can't see it says.`
	addAdminFlags(cmd)
	cmd.Flags().StringVar(&activity, "activity", "", "the sale to look at")
	cmd.Flags().StringVar(&load, "loadtest", "", "the result of the last load test: its directory, or its summary.json")
	return named(cmd)
}

// checkStep is a part of a check.
type checkStep struct {
	name string
	run  func() error
}

// take runs a step. If the server answers that it can't check something now, that is a finding, and
// the check goes on. A server that doesn't answer ends the check.
func (c *checker) take(step *checkStep) error {
	err := step.run()
	if err == nil || codeOf(err) != exitDependency || c.cmd.Context().Err() != nil {
		return err
	}
	if len(c.findings) == 0 {
		if c.servers() != nil {
			return err
		}
	}
	c.found(step.name, "fail", "it can't be checked now: "+err.Error(), "ask again when the servers are up")
	return nil
}

// end prints the findings, and fails if a check has failed.
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
				hint = "→ " + shown(f.Hint)
			}
			if _, err := fmt.Fprintf(lines, "%s\t%s\t%s\t%s\n", shown(f.State), shown(f.Check), shown(f.Detail), hint); err != nil {
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

// isWell reports whether everything is normal. A node that started less than a second ago may not
// know it yet.
func (h *nodeHealth) isWell() bool {
	for _, server := range h.Servers {
		if server.State != "ok" {
			return false
		}
	}
	return h.Shards.Open > 0 && h.Shards.Closed+h.Shards.Rebuilding == 0
}

// healthLooks is how many times an abnormal node is asked again.
const healthLooks = 5

func (c *checker) health() (report nodeHealth, err error) {
	_, response, err := c.send(&c.http, func(url string) (*http.Request, error) {
		return http.NewRequestWithContext(c.cmd.Context(), http.MethodGet, url+"/readyz?verbose", http.NoBody)
	})
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return report, fmt.Errorf("read the answer: %w", err)
	}
	return report, nil
}

// untilWell asks again while the answer isn't well, some times: the node updates its report once a
// second.
func (c *checker) untilWell(ask func() (well bool, err error)) error {
	well, err := ask()
	for range healthLooks {
		if err != nil || well {
			break
		}
		select {
		case <-c.cmd.Context().Done():
			return c.cmd.Context().Err()
		case <-time.After(time.Second / 2):
		}
		well, err = ask()
	}
	return err
}

// servers asks the node for the state of its servers and of the shards.
func (c *checker) servers() error {
	var report nodeHealth
	err := c.untilWell(func() (well bool, err error) {
		report, err = c.health()
		return report.isWell(), err
	})
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

// ask reads an answer of the admin API.
func (c *checker) ask(doc any, path ...string) error {
	_, err := c.read(c.cmd.Context(), doc, get(path...))
	return err
}

// nodes checks that every node has the newest limits and switches in force.
func (c *checker) nodes() error {
	var doc struct {
		Nodes []struct{ Node, State string }
	}
	if err := c.ask(&doc, "settings"); err != nil {
		return err
	}
	var behind []string
	for _, n := range doc.Nodes {
		if n.State != "current" {
			behind = append(behind, n.Node+" is "+n.State)
		}
	}
	if len(behind) > 0 {
		c.found("nodes", "warn", strings.Join(behind, ", "), "see ctl settings show: this node can't reach the database, or it was stopped")
		return nil
	}
	c.found("nodes", "ok", fmt.Sprintf("%d, all with the newest limits and switches", len(doc.Nodes)), "")
	return nil
}

func (c *checker) limits() error {
	var doc struct{ Policies []struct{ Name, Mode string } }
	if err := c.ask(&doc, "limits"); err != nil {
		return err
	}
	var idle []string
	for _, p := range doc.Policies {
		if p.Mode != "enforce" {
			idle = append(idle, p.Name+" is "+p.Mode)
		}
	}
	switch {
	case len(doc.Policies) == 0:
		c.found("limits", "warn", "there are none", "without a limit per user, one program can send all the purchases: "+
			"penstock ctl limits set users --key user --rate 1 --burst 5 --reason R")
	case len(idle) > 0:
		c.found("limits", "warn", strings.Join(idle, ", "), "a policy that isn't enforced refuses nobody")
	default:
		c.found("limits", "ok", fmt.Sprintf("%d policies, all enforced", len(doc.Policies)), "")
	}
	return nil
}

// switches lists the switches that are set: a forgotten one can spoil a sale.
func (c *checker) switches() error {
	set, err := (&plan{session: c.session}).setSwitches()
	if err != nil {
		return err
	}
	for _, is := range set {
		name := switchKey(fmt.Sprint(is["name"]), is["scope"])
		detail := fmt.Sprintf("%s: %v since %v by %v: %v", name, is["value"], is["since"], is["by"], is["reason"])
		c.found("switch", "warn", detail, "if it was forgotten, take it out: ctl switches set NAME - --reason WHY")
	}
	if len(set) == 0 {
		c.found("switches", "ok", "none is set", "")
	}
	return nil
}

// preflight asks the server about one sale.
func (c *checker) preflight(activity string) error {
	var doc struct{ Checks []finding }
	err := c.untilWell(func() (well bool, err error) {
		doc.Checks = nil
		err = c.ask(&doc, "activities", activity, "preflight")
		return !slices.ContainsFunc(doc.Checks, func(f finding) bool { return f.Check == "shards" && f.State != "ok" }), err
	})
	if err != nil {
		return err
	}
	if len(doc.Checks) == 0 {
		return &exitError{exitFailure, fmt.Errorf("read the answer: the server checked nothing for %s", activity)}
	}
	c.findings = append(c.findings, doc.Checks...)
	return nil
}
