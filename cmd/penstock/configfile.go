package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// applyFile sets the values of a YAML file, and keeps file:line of each key in origin. Every error
// begins with file:line.
func applyFile(c *Config, path string, origin map[string]string) []error {
	text, err := os.ReadFile(path)
	if err != nil {
		return []error{fmt.Errorf("config: %w", err)}
	}
	root, errs := yamlDocument(path, text)
	if root == nil {
		return errs
	}
	if root.Kind != yaml.MappingNode {
		return []error{fmt.Errorf("%s:%d: settings are key: value pairs", path, root.Line)}
	}
	known := make(map[string]setting)
	for _, s := range allSettings() {
		known[s.key] = s
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		here := fmt.Sprintf("%s:%d", path, key.Line)
		at := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s: %s", here, fmt.Sprintf(format, args...)))
		}
		name := strings.ReplaceAll(key.Value, "_", "-")
		s, ok := known[name]
		switch {
		case !ok:
			at("unknown key %q%s", key.Value, suggestion(name, known))
		case origin[name] != "":
			at("%s: was set already, at %s", name, origin[name])
		case value.Tag == "!!null":
			at("%s: has no value: give it one, or delete the line", name)
		default:
			text, ok := s.text(c, value)
			if !ok {
				at("%s: must be a single value", name)
			} else if err := s.set(c, text); err != nil {
				at("%v", err)
			}
		}
		if origin[name] == "" {
			origin[name] = here
		}
	}
	return errs
}

// yamlLine finds the line number in errors of the yaml package.
var yamlLine = regexp.MustCompile(`\bline (\d+):? ?`)

// yamlError begins with file:line where the line is known.
func yamlError(path string, err error) error {
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " ")
	line := ""
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		line = ":" + found[1]
		text = strings.TrimSpace(strings.Replace(text, found[0], "", 1))
	}
	return fmt.Errorf("%s%s: is not YAML: %s", path, line, text)
}

// yamlDocument returns the document of a file; nil if there is none. A second document is a
// mistake: it would be ignored.
func yamlDocument(path string, text []byte) (*yaml.Node, []error) {
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, []error{yamlError(path, err)}
	}
	var errs []error
	switch err := decoder.Decode(&more); {
	case errors.Is(err, io.EOF):
	case err != nil:
		errs = append(errs, yamlError(path, err))
	default:
		errs = append(errs, fmt.Errorf("%s:%d: has more than one document: only one is read, join them", path, secondDocument(text)))
	}
	if root := doc.Content[0]; root.Tag != "!!null" || root.Value != "" {
		return root, errs
	}
	return nil, errs // behind its mark there are comments alone
}

// secondDocument returns the line on which the second document begins.
func secondDocument(text []byte) int {
	seen := false // the document before this mark has content
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimRight(line, " \t\r")
		switch mark := bytes.HasPrefix(line, []byte("---")); {
		case mark && seen:
			return i + 1
		case mark, len(line) > 0 && line[0] != '#' && line[0] != '%':
			seen = true
		}
	}
	return 1
}

// text returns a YAML value as text for set: a scalar, or a sequence of scalars for a list. ok is
// false for anything else.
func (s setting) text(c *Config, value *yaml.Node) (string, bool) {
	if value.Kind == yaml.ScalarNode {
		return value.Value, true
	}
	if _, list := s.value(c).(*[]string); !list || value.Kind != yaml.SequenceNode {
		return "", false
	}
	parts := make([]string, len(value.Content))
	for i, part := range value.Content {
		if part.Kind != yaml.ScalarNode || part.Tag == "!!null" {
			return "", false
		}
		parts[i] = part.Value
	}
	return strings.Join(parts, ","), true
}
