package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/penstock/penstock/loadtest"
)

// loadOptions are the settings of a load test.
type loadOptions struct {
	config     loadtest.LoadConfig
	activities []string
	skus       []string      // of the only activity; with several, each SKU has its activity and a slash before it; * is all
	each       loadtest.Item // the values that all items share
	mix        loadtest.Mix  // for phases without their own mix
	rate       float64
	duration   time.Duration
	stages     []loadtest.Phase // of --stages
	phases     []loadtest.Phase // of a scenario
	slos       []loadtest.SLO
	maxErrors  string // a share
	dir        string
	admin      string
	adminToken string

	origin map[string]string // setting -> where it was set
}

func defaultLoadOptions() loadOptions {
	return loadOptions{
		maxErrors: "1%", config: loadtest.DefaultLoadConfig(), each: loadtest.Item{Currency: "CNY"}, mix: loadtest.DefaultMix(),
		duration: 30 * time.Second, dir: "penstock-loadtest",
		origin: make(map[string]string),
	}
}

// loadSetting is one value that a flag and a scenario can set.
type loadSetting struct {
	key   string
	usual string // the default, as text
	bare  string // the value of the flag without one
	help  string
	set   func(o *loadOptions, text string) error
	// list replaces set for a setting with several values. The values are separated by commas, or
	// they are a list in a scenario. With whole, commas belong to the value.
	list  func(o *loadOptions, values []string) error
	whole bool
}

// apply sets the value from a text.
func (s loadSetting) apply(o *loadOptions, text string) error {
	if s.list == nil {
		return s.set(o, text)
	}
	if s.whole {
		return s.list(o, []string{text})
	}
	values := strings.Split(text, ",")
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	return s.list(o, values)
}

// loadSettings is the one table behind flags and scenarios.
func loadSettings() []loadSetting {
	d := defaultLoadOptions()
	return slices.Concat(saleOptions(), []loadSetting{
		{key: "rate", help: "departures per second, such as 5000/s",
			set: func(o *loadOptions, s string) error {
				rate, err := loadtest.ParseRate(s)
				if err == nil && rate == 0 {
					err = errors.New("must be above zero")
				}
				o.rate = rate
				return err
			}},
		{key: "duration", usual: d.duration.String(), help: "how long the load lasts",
			set: durationOption(func(o *loadOptions) *time.Duration { return &o.duration })},
		{key: "stages", help: "points of rate and time, with even ramps between them, instead of --rate and --duration: 0@0s,5000@10s,5000@30s",
			set: func(o *loadOptions, s string) (err error) { o.stages, err = parseStages(s); return err }},
		{key: "users", usual: strconv.Itoa(d.config.Users), help: "the number of different buyers; each purchase is by one of them",
			set: intOption(func(o *loadOptions) *int { return &o.config.Users })},
		{key: "seed", usual: "0", help: "seed of the random choices; 0 takes a new one, which the report names",
			set: func(o *loadOptions, s string) (err error) { o.config.Seed, err = parseNumber(s); return err }},
		{key: "connections", usual: strconv.Itoa(d.config.Connections), help: "most requests in flight, and most connections to each target",
			set: intOption(func(o *loadOptions) *int { return &o.config.Connections })},
		{key: "request-timeout", usual: d.config.RequestTimeout.String(), help: "how long a request may take, and how late it may be sent",
			set: durationOption(func(o *loadOptions) *time.Duration { return &o.config.RequestTimeout })},
		{key: "verify-within", usual: d.config.VerifyWithin.String(), help: "after the load, how long accepted orders may take to " +
			"leave the queue",
			set: durationOption(func(o *loadOptions) *time.Duration { return &o.config.VerifyWithin })},
		{key: "max-errors", usual: d.maxErrors, help: "share of requests that may be errors: no answer, or an answer that a healthy " +
			"server never gives",
			set: func(o *loadOptions, s string) error {
				_, err := loadtest.ParseShare(s)
				o.maxErrors = s
				return err
			}},
		{key: "out", usual: d.dir, help: "directory of " + summaryFile + " and " + reportFile + ", created if missing",
			set: textOption(func(o *loadOptions) *string { return &o.dir })},
		{key: "admin", help: "URL of the admin listener: read the stock from the audit, and check it afterwards",
			set: textOption(func(o *loadOptions) *string { return &o.admin })},
		{key: "admin-token", help: "token of the admin listener (environment: " + envAdminToken + ")",
			set: textOption(func(o *loadOptions) *string { return &o.adminToken })},
	}, mixOptions(d.mix))
}

// saleOptions are about the shop and what it sells.
func saleOptions() []loadSetting {
	d := defaultLoadOptions()
	return []loadSetting{
		{key: "target", help: "URL of the public listener, or several of one shop, separated by commas",
			list: listOption(func(o *loadOptions) *[]string { return &o.config.Targets })},
		{key: "caller-key", help: "the caller's key, or several separated by commas, also of several merchants (environment: " +
			"PENSTOCK_CALLER_KEY)",
			list: listOption(func(o *loadOptions) *[]string { return &o.config.CallerKeys })},
		{key: "activity", help: "the activity, or several separated by commas: each gets the same share of purchases",
			list: listOption(func(o *loadOptions) *[]string { return &o.activities })},
		{key: "sku", help: "the item, or several separated by commas; * is all items of the sale's page; with several activities, ACTIVITY/SKU",
			list: listOption(func(o *loadOptions) *[]string { return &o.skus })},
		{key: "zipf", usual: strconv.FormatFloat(d.config.Zipf, 'g', -1, 64),
			help: "how uneven the demand is: the k-th item is bought in proportion to 1/k^ZIPF; 0 means that all are bought equally",
			set: func(o *loadOptions, s string) (err error) {
				if o.config.Zipf, err = strconv.ParseFloat(s, 64); err != nil {
					err = fmt.Errorf("%q is not a number like 1", s)
				}
				return err
			}},
		{key: "quantity", usual: "1", help: "units per purchase",
			set: intOption(func(o *loadOptions) *int { return &o.config.Quantity })},
		{key: "stock", usual: "0", help: "units of each item that only this load can buy, to detect overselling; 0 is unknown",
			set: intOption(func(o *loadOptions) *int { return &o.each.Stock })},
		{key: "per-user", usual: "0", help: "units that one user may have; 0 takes the sale's page",
			set: intOption(func(o *loadOptions) *int { return &o.each.PerUser })},
		{key: "price", usual: "0", help: "price of a unit in minor units, for payments; 0 takes the sale's page",
			set: func(o *loadOptions, s string) error {
				price, err := parseNumber(s)
				o.each.Price = int64(min(price, 1<<62))
				return err
			}},
		{key: "currency", usual: d.each.Currency, help: "currency of --price",
			set: textOption(func(o *loadOptions) *string { return &o.each.Currency })},
		{key: "payment-secret",
			help: "the merchant's payment secret, for payments; a scenario may list several merchants' secrets (environment: " +
				"PENSTOCK_PAYMENT_SECRET)",
			list: listOption(func(o *loadOptions) *[]string { return &o.config.PaymentSecrets }), whole: true},
	}
}

// mixOptions are the shares of a mix.
func mixOptions(d loadtest.Mix) []loadSetting {
	share := func(key, bare, help string, usual float64, field func(*loadtest.Mix) *float64) loadSetting {
		return loadSetting{key: key, usual: strconv.FormatFloat(100*usual, 'g', 4, 64) + "%", bare: bare, help: help,
			set: func(o *loadOptions, s string) (err error) { *field(&o.mix), err = loadtest.ParseShare(s); return err }}
	}
	return []loadSetting{
		share("repeat", "", "share of purchases that repeat an earlier purchase, with the same key", d.Repeat,
			func(m *loadtest.Mix) *float64 { return &m.Repeat }),
		share("double-click", "", "share of purchases that repeat the purchase just before, with the same key", d.DoubleClick,
			func(m *loadtest.Mix) *float64 { return &m.DoubleClick }),
		share("browse", "10%", "share of departures that read the sale's page", d.Browse,
			func(m *loadtest.Mix) *float64 { return &m.Browse }),
		share("poll", "100%", "share of accepted orders that are polled until they are confirmed", d.Poll,
			func(m *loadtest.Mix) *float64 { return &m.Poll }),
		share("pay", "", "share of accepted orders that are paid", d.Pay,
			func(m *loadtest.Mix) *float64 { return &m.Pay }),
		share("cancel", "", "share of accepted orders that are cancelled", d.Cancel,
			func(m *loadtest.Mix) *float64 { return &m.Cancel }),
	}
}

func textOption(field func(*loadOptions) *string) func(*loadOptions, string) error {
	return func(o *loadOptions, s string) error { *field(o) = s; return nil }
}

func listOption(field func(*loadOptions) *[]string) func(*loadOptions, []string) error {
	return func(o *loadOptions, values []string) error { *field(o) = values; return nil }
}

func intOption(field func(*loadOptions) *int) func(*loadOptions, string) error {
	return func(o *loadOptions, s string) (err error) {
		if *field(o), err = strconv.Atoi(s); err != nil {
			err = fmt.Errorf("%q is not a whole number", s)
		}
		return err
	}
}

func durationOption(field func(*loadOptions) *time.Duration) func(*loadOptions, string) error {
	return func(o *loadOptions, s string) (err error) {
		if *field(o), err = time.ParseDuration(s); err != nil {
			return fmt.Errorf("%q is not a duration like 30s", s)
		}
		if *field(o) <= 0 {
			return errors.New("must be above zero")
		}
		return nil
	}
}

func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of zero or more", s)
	}
	return n, nil
}

// parseStages reads points of rate and time, and returns the ramps between them.
func parseStages(text string) ([]loadtest.Phase, error) {
	var phases []loadtest.Phase
	lastRate, lastTime := 0.0, time.Duration(0)
	for i, part := range strings.Split(text, ",") {
		rate, at, ok := strings.Cut(strings.TrimSpace(part), "@")
		if !ok {
			return nil, fmt.Errorf("%q is not RATE@TIME, such as 5000@10s", part)
		}
		r, err := loadtest.ParseRate(rate)
		if err != nil {
			return nil, err
		}
		t, err := time.ParseDuration(at)
		if err != nil || t < lastTime {
			return nil, fmt.Errorf("%q is not a time like 10s, or it is earlier than the time before", at)
		}
		if i == 0 && t > 0 {
			lastRate = r // the first rate holds from the start
		}
		if t > lastTime {
			phases = append(phases, loadtest.Phase{Name: fmt.Sprintf("%v to %v", lastTime, t), Duration: t - lastTime, From: lastRate, To: r})
		}
		lastRate, lastTime = r, t
	}
	if len(phases) == 0 {
		return nil, fmt.Errorf("%q has no second point: say when it ends", text)
	}
	return phases, nil
}

// addLoadFlags declares the flags.
func addLoadFlags(flags *pflag.FlagSet) {
	for _, s := range loadSettings() {
		flags.String(s.key, s.usual, s.help)
		if s.bare != "" {
			flags.Lookup(s.key).NoOptDefVal = s.bare
		}
	}
	flags.StringArray("slo", nil, "thresholds; if one is missed, the exit code is 99: 'p99(accepted)<50ms, error_rate<0.1%'; may be repeated")
	flags.String("scenario", "", "YAML file with the same settings and phases; a flag wins over it")
	flags.Bool("schema", false, "print the JSON Schema of "+summaryFile+" and do nothing else")
	flags.StringP("output", "o", "table", "how to print the summary: table or json")
}

// read reads the environment, then the scenario, then the flags. A later value replaces an earlier
// one.
func (o *loadOptions) read(cmd *cobra.Command, environ func(string) string) error {
	flags := cmd.Flags()
	var errs []error
	for _, s := range loadSettings() {
		if name := secretEnv[s.key]; name != "" && environ(name) != "" {
			o.origin[s.key] = "environment " + name
			errs = append(errs, s.apply(o, environ(name)))
		}
	}
	path, err := flags.GetString("scenario")
	if err != nil {
		return err
	}
	if path != "" {
		errs = append(errs, o.readScenario(cmd, path)...)
	}
	for _, s := range loadSettings() {
		f := flags.Lookup(s.key)
		if !f.Changed {
			continue
		}
		o.origin[s.key] = "flag --" + s.key
		if err := s.apply(o, f.Value.String()); err != nil {
			errs = append(errs, fmt.Errorf("flag --%s: %w", s.key, err))
		}
	}
	texts, err := flags.GetStringArray("slo")
	if err != nil {
		return err
	}
	if flags.Changed("slo") {
		o.slos = nil
	}
	for _, text := range texts {
		slos, err := loadtest.ParseSLOs(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("flag --%w", err))
		}
		o.slos = append(o.slos, slos...)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(o.goods(), o.plan())
}

// everything is the name that stands for all items of a sale's page.
const everything = "*"

// goods makes the items from the settings.
func (o *loadOptions) goods() error {
	if len(o.activities) == 0 {
		return nil // the check of the configuration reports it
	}
	if len(o.skus) == 0 {
		return fmt.Errorf("%s: is required; %s is all items of the sale's page", o.where("sku"), everything)
	}
	o.config.Items = nil
	add := func(activity, sku string) {
		item := o.each
		item.Activity, item.SKU, item.Known, item.Available = activity, sku, item.Stock > 0, item.Stock
		if sku == everything {
			item.SKU = ""
		}
		o.config.Items = append(o.config.Items, item)
	}
	for _, sku := range o.skus {
		activity := o.activities[0]
		switch {
		case sku == "":
			return fmt.Errorf("%s: has an empty name", o.where("sku"))
		case sku == everything:
			for _, a := range o.activities {
				add(a, everything)
			}
			continue
		case len(o.activities) > 1:
			i := slices.IndexFunc(o.activities, func(a string) bool { return strings.HasPrefix(sku, a+"/") && len(sku) > len(a)+1 })
			if i < 0 {
				return fmt.Errorf("%s: %q is not ACTIVITY/SKU of one of the activities %s", o.where("sku"), sku, strings.Join(o.activities, ", "))
			}
			activity = o.activities[i]
			sku = sku[len(activity)+1:]
		}
		add(activity, sku)
	}
	for _, a := range o.activities {
		if !slices.ContainsFunc(o.config.Items, func(i loadtest.Item) bool { return i.Activity == a }) {
			return fmt.Errorf("%s: names no item of activity %s", o.where("sku"), a)
		}
	}
	return nil
}

// plan makes the phases from the settings.
func (o *loadOptions) plan() error {
	timed := o.origin["rate"]
	if timed == "" {
		timed = o.origin["duration"]
	}
	switch {
	case len(o.stages) > 0 && timed != "":
		return fmt.Errorf("%s: and %s both set the rate: give one of them", timed, o.origin["stages"])
	case len(o.stages) > 0:
		o.config.Phases = o.stages
	case len(o.phases) > 0 && timed != "":
		return fmt.Errorf("%s: the scenario's phases set rate and duration", timed)
	case len(o.phases) > 0:
		o.config.Phases = o.phases
		return nil // the phases have their own mixes
	case o.rate == 0:
		return errors.New("flag --rate: is required, or --stages, or a --scenario with phases")
	default:
		o.config.Phases = []loadtest.Phase{{Name: "load", Duration: o.duration, From: o.rate, To: o.rate}}
	}
	for i := range o.config.Phases {
		o.config.Phases[i].Mix = o.mix
	}
	return nil
}

// where says where a setting was set.
func (o *loadOptions) where(key string) string {
	if where, ok := o.origin[key]; ok && strings.HasPrefix(where, "flag ") {
		return where
	} else if ok {
		return where + ": " + key
	}
	return "flag --" + key
}

// located puts the place where a setting was set in front of a mistake. The mistake begins with the
// setting's name.
func (o *loadOptions) located(err error) error {
	key, rest, ok := strings.Cut(err.Error(), ": ")
	if known := slices.ContainsFunc(loadSettings(), func(s loadSetting) bool { return s.key == key }); !ok || !known {
		return err
	}
	return fmt.Errorf("%s: %s", o.where(key), rest)
}

// errorSLO is --max-errors as a threshold.
func (o *loadOptions) errorSLO() []loadtest.SLO {
	slos, err := loadtest.ParseSLOs("error_rate<=" + strings.ReplaceAll(o.maxErrors, " ", ""))
	if err != nil { // the option was parsed as a share
		return nil
	}
	return slos
}
