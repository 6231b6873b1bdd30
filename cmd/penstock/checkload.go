package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock/penstock/loadtest"
)

// farAbove is the factor above a load test's rate from which a limit is reported as too high: it
// lets in rates that were never tested.
const farAbove = 4

// loadTest compares the limits of a sale with the purchase rate that its last load test achieved.
func (c *checker) loadTest(activity, path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, summaryFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("flag --loadtest: %w", err)}
	}
	s, err := loadtest.ReadSummary(text)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("flag --loadtest: %s: %w", path, err)}
	}
	achieved := purchaseRate(s)
	about := fmt.Sprintf("the load test of %s achieved %.0f purchases/s", s.Run.Started.UTC().Format("2006-01-02"), achieved)
	if !slices.Contains(s.Run.Sales, activity) {
		c.found("load test", "warn", about+", of other sales: "+strings.Join(s.Run.Sales, ", "), "rehearse this one: penstock loadtest")
	} else if s.Verdict != loadtest.Passed {
		c.found("load test", "warn", about+", and did not pass: "+string(s.Verdict), "correct that first, then rehearse again")
	} else {
		c.found("load test", "ok", about, "")
	}
	var sale struct{ Merchant string }
	if err := c.ask(&sale, "activities", activity); err != nil {
		return err
	}
	var doc struct{ Policies []loadLimit }
	if err := c.ask(&doc, "limits"); err != nil {
		return err
	}
	c.compareLimits(doc.Policies, sale.Merchant, activity, achieved, achieved/float64(max(len(s.Callers), 1)))
	return nil
}

// purchaseRate returns how many purchases a second a load test sent.
func purchaseRate(s *loadtest.Summary) float64 {
	bought, all := int64(0), int64(0)
	for _, m := range s.Outcomes {
		bought += m.Count
	}
	for _, action := range []string{"buy", "browse"} { // only these begin something; the other requests follow an order
		all += s.Actions[action].Count
	}
	if all == 0 {
		return 0
	}
	return s.AchievedRate * float64(bought) / float64(all)
}

// loadLimit is a limit, with the members that the comparison needs.
type loadLimit struct {
	Name, Key, Match, Mode string
	Rate                   float64
}

// reaches reports whether the limit applies to the sale and is shared by many buyers. Limits of
// users and addresses are not: each buyer has its own.
func (l *loadLimit) reaches(merchant, activity string) bool {
	if l.Mode != "enforce" {
		return false
	}
	switch l.Key {
	case "global":
		return true
	case "merchant":
		return l.Match == "" || l.Match == merchant
	case "caller":
		return l.Match == "" || strings.HasPrefix(l.Match, merchant+"/")
	case "activity":
		return l.Match == "" || l.Match == activity
	}
	return false
}

// compareLimits compares each limit with the rate of all purchases, or of one caller's.
func (c *checker) compareLimits(limits []loadLimit, merchant, activity string, all, ofCaller float64) {
	named := make(map[string]bool) // kinds that have a limit for exactly this name
	for i := range limits {
		if limits[i].Match != "" && limits[i].Key != "caller" && limits[i].reaches(merchant, activity) {
			named[limits[i].Key] = true
		}
	}
	for i := range limits {
		l := &limits[i]
		if !l.reaches(merchant, activity) || l.Match == "" && named[l.Key] {
			continue
		}
		tried := all
		if l.Key == "caller" {
			tried = ofCaller
		}
		detail := fmt.Sprintf("%g/s for %s; the load test had %.0f/s", l.Rate, strings.TrimSpace(l.Key+" "+l.Match), math.Round(tried))
		switch {
		case tried == 0:
		case l.Rate < tried:
			c.found("limit "+l.Name, "warn", detail+": it would refuse that load",
				"penstock ctl limits set "+l.Name+", or rehearse with the limits of the sale")
		case l.Rate > farAbove*tried:
			c.found("limit "+l.Name, "warn", detail+": it lets in much more than was tested", "rehearse at that rate, or lower the "+
				"limit: penstock ctl limits set "+l.Name)
		default:
			c.found("limit "+l.Name, "ok", detail, "")
		}
	}
}
