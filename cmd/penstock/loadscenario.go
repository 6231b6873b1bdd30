package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/loadtest"
)

// scenario reads a file with the settings of a load test, and phases. Every mistake is reported,
// with file and line.
type scenario struct {
	path    string
	options *loadOptions
	errs    []error
}

// maxPhases bounds a scenario.
const maxPhases = 1000

// readScenario reads the settings of a file. The mix of a phase starts from the file's mix.
func (o *loadOptions) readScenario(cmd *cobra.Command, path string) []error {
	text, err := readInput(cmd, path)
	if err != nil {
		return []error{fmt.Errorf("flag --scenario: %w", err)}
	}
	s := &scenario{path: path, options: o}
	root, errs := yamlDocument(path, text)
	switch s.errs = errs; {
	case root == nil && len(errs) == 0:
		return []error{fmt.Errorf("%s: is empty", path)}
	case root != nil:
		s.root(root)
	}
	return s.errs
}

func (s *scenario) at(n *yaml.Node, format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("%s:%d: %s", s.path, n.Line, fmt.Sprintf(format, args...)))
}

// members calls f for each member of a mapping. It reports values that aren't mappings, and keys
// that are unknown or given twice.
func (s *scenario) members(n *yaml.Node, what string, known []string, f func(key string, at, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		s.at(n, "%s: is key: value pairs", what)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := strings.ReplaceAll(key.Value, "_", "-")
		switch line, twice := seen[name]; {
		case !slices.Contains(known, name):
			s.at(key, "unknown key %q%s", key.Value, nearest(name, known))
		case twice:
			s.at(key, "%s: was set already, at line %d", name, line)
		default:
			seen[name] = key.Line
			f(name, key, value)
		}
	}
}

// nearest names the known key that is nearest to name, if one is near enough.
func nearest(name string, known []string) string {
	set := make(map[string]setting, len(known))
	for _, k := range known {
		set[k] = setting{}
	}
	return suggestion(name, set)
}

// scalar returns a single value as text.
func (s *scenario) scalar(key string, n *yaml.Node) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		s.at(n, "%s: must be a single value", key)
		return "", false
	}
	return n.Value, true
}

// list returns the values of a list, or a single value.
func (s *scenario) list(key string, n *yaml.Node) []string {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	var out []string
	for _, one := range nodes {
		if text, ok := s.scalar(key, one); ok {
			out = append(out, text)
		}
	}
	return out
}

func (s *scenario) root(n *yaml.Node) {
	settings := make(map[string]loadSetting)
	for _, one := range loadSettings() {
		settings[one.key] = one
	}
	// The phases come last, since a phase without a mix takes that of the file.
	var phases *yaml.Node
	known := append(slices.Sorted(maps.Keys(settings)), "slo", "phases")
	s.members(n, "a scenario", known, func(key string, at, value *yaml.Node) {
		switch key {
		case "phases":
			phases = value
		case "slo":
			for _, text := range s.list(key, value) {
				slos, err := loadtest.ParseSLOs(text)
				if err != nil {
					s.at(value, "%v", err)
				}
				s.options.slos = append(s.options.slos, slos...)
			}
		default:
			if settings[key].list != nil && value.Kind == yaml.SequenceNode {
				s.options.origin[key] = fmt.Sprintf("%s:%d", s.path, at.Line)
				if err := settings[key].list(s.options, s.list(key, value)); err != nil {
					s.at(at, "%s: %v", key, err)
				}
				return
			}
			if text, ok := s.scalar(key, value); ok {
				s.set(settings[key], at, text)
			}
		}
	})
	if phases != nil {
		s.phases(phases)
	}
}

func (s *scenario) set(one loadSetting, at *yaml.Node, text string) {
	s.options.origin[one.key] = fmt.Sprintf("%s:%d", s.path, at.Line)
	if err := one.apply(s.options, text); err != nil {
		s.at(at, "%s: %v", one.key, err)
	}
}

func (s *scenario) phases(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > maxPhases {
		s.at(n, "phases: is a list of 1 to %d phases", maxPhases)
		return
	}
	for i, one := range n.Content {
		if p, ok := s.phase(i, one); ok {
			s.options.phases = append(s.options.phases, p)
		}
	}
}

// phase reads one phase, and reports whether it is valid.
func (s *scenario) phase(i int, n *yaml.Node) (loadtest.Phase, bool) {
	before := len(s.errs)
	p := loadtest.Phase{Name: fmt.Sprintf("phase %d", i+1), From: -1, To: -1, Mix: s.options.mix}
	s.members(n, "a phase", []string{"name", "duration", "rate", "to", "mix"}, func(key string, at, value *yaml.Node) {
		if key == "mix" {
			s.mix(value, &p.Mix)
			return
		}
		text, ok := s.scalar(key, value)
		if !ok {
			return
		}
		var err error
		switch key {
		case "name":
			p.Name = text
		case "duration":
			if p.Duration, err = time.ParseDuration(text); err != nil || p.Duration <= 0 {
				s.at(at, "duration: %q is not a duration above zero, like 30s", text)
				p.Duration = 1
			}
			return
		case "rate":
			p.From, err = loadtest.ParseRate(text)
		case "to":
			p.To, err = loadtest.ParseRate(text)
		}
		if err != nil {
			s.at(at, "%s: %v", key, err)
		}
	})
	switch {
	case n.Kind != yaml.MappingNode:
	case p.Duration == 0:
		s.at(n, "%s: duration: is required", p.Name)
	case p.From < 0:
		s.at(n, "%s: rate: is required", p.Name)
	}
	if p.To < 0 {
		p.To = p.From // no ramp
	}
	if err := p.Mix.Validate(); err != nil {
		s.at(n, "%s: %v", p.Name, err)
	}
	return p, len(s.errs) == before
}

// mix reads the shares of a phase. Buy and browse add up to 100 %, so one of them is enough.
func (s *scenario) mix(n *yaml.Node, m *loadtest.Mix) {
	settings := make(map[string]loadSetting)
	for _, one := range mixOptions(loadtest.DefaultMix()) {
		settings[one.key] = one
	}
	buy, browses := -1.0, false
	own := loadOptions{mix: *m}
	s.members(n, "a mix", append(slices.Sorted(maps.Keys(settings)), "buy"), func(key string, at, value *yaml.Node) {
		text, ok := s.scalar(key, value)
		if !ok {
			return
		}
		var err error
		switch key {
		case "buy":
			buy, err = loadtest.ParseShare(text)
		default:
			browses = browses || key == "browse"
			err = settings[key].set(&own, text)
		}
		if err != nil {
			s.at(at, "%s: %v", key, err)
		}
	})
	*m = own.mix
	switch {
	case buy < 0:
	case !browses:
		m.Browse = 1 - buy
	case buy+m.Browse < 0.9999 || buy+m.Browse > 1.0001:
		s.at(n, "buy and browse: are %g together, but must be 100%%", buy+m.Browse)
	}
}
