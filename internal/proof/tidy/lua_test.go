package tidy

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	luaCall     = regexp.MustCompile(`redis\.p?call\s*\(\s*([^,)]+)(?:,\s*([^,)]+))?`)
	luaLocal    = regexp.MustCompile(`(?m)^\s*local\s+([\w\s,]+?)\s*=\s*(.+)$`)
	luaFunction = regexp.MustCompile(`(?m)^local function (\w+)\(([^)]*)\)`)
	luaKey      = regexp.MustCompile(`^KEYS\s*\[\s*[\w+\- ]+\s*\]$`)
	luaEither   = regexp.MustCompile(`\band\s+(\w+)\s+or\s+(\w+)$`)
	luaLiteral  = regexp.MustCompile(`^['"](\w+)['"]$`)
	luaRandom   = regexp.MustCompile(`math\.random|os\.(time|clock)|['"](TIME|RANDOMKEY|SRANDMEMBER|HRANDFIELD|ZRANDMEMBER|SPOP)['"]`)
)

// keyless are the commands of scripts whose first argument is no key.
var keyless = map[string]bool{"PUBLISH": true, "PING": true, "INFO": true, "CONFIG": true, "WAIT": true}

// Scripts of one folder may share a prelude: the file whose comment on top begins with "<name>.lua
// stands in front of". It says what their KEYS and common ARGV are, once; each script adds its
// reply, invariant and cost.
var (
	luaInputs   = []string{"KEYS", "ARGV"}
	luaPromises = []string{"reply", "invariant", "cost"}
)

// luaScript is a script, or the prelude of its folder.
type luaScript struct {
	textFile
	keys     map[string]bool // names of locals that are a KEYS entry
	wrappers map[string]int  // functions that call a command on a parameter named key -> which parameter that is
}

func checkLua(t *tree, report func(where, what string)) {
	preludes := map[string]*luaScript{}
	var scripts []*luaScript
	for _, f := range t.texts {
		if path.Ext(f.path) != ".lua" {
			continue
		}
		s := &luaScript{textFile: f, keys: luaKeys(f.text), wrappers: luaWrappers(f.text)}
		scripts = append(scripts, s)
		if strings.Contains(luaHead(f.text), path.Base(f.path)+" stands in front of") {
			preludes[path.Dir(f.path)] = s
		}
	}
	for _, s := range scripts {
		prelude := preludes[path.Dir(s.path)]
		s.checkContract(prelude, report)
		if prelude != nil && prelude != s {
			maps.Copy(s.keys, prelude.keys)
			maps.Copy(s.wrappers, prelude.wrappers)
		}
		s.checkCalls(report)
	}
}

func (s *luaScript) checkContract(prelude *luaScript, report func(where, what string)) {
	parts := luaPromises
	if prelude == nil || prelude == s {
		parts = slices.Concat(luaInputs, luaPromises)
	}
	head := strings.ToLower(luaHead(s.text))
	for _, part := range parts {
		if part == "reply" && prelude == s {
			part = "repl" // it describes all replies
		}
		if !strings.Contains(head, strings.ToLower(part)) {
			report(s.path, "the comment on top doesn't say: "+part)
		}
	}
}

// keyless reports whether a command has no key in this script.
func (s *luaScript) keyless(command string) bool {
	return keyless[command] || command == "TIME" && clockExempt[s.path] != ""
}

func (s *luaScript) checkCalls(report func(where, what string)) {
	inside := "" // the function that the line is in
	for i, line := range strings.Split(s.text, "\n") {
		code, _, _ := strings.Cut(line, "--")
		where := fmt.Sprintf("%s:%d", s.path, i+1)
		if m := luaFunction.FindStringSubmatch(code); m != nil {
			inside = m[1]
		} else if strings.HasPrefix(code, "end") {
			inside = ""
		}
		if m := luaRandom.FindString(code); m != "" && (clockExempt[s.path] == "" || m != "'TIME'") {
			report(where, "uses "+m+": the result depends on more than the input")
		}
		_, wrapping := s.wrappers[inside]
		for _, call := range luaCall.FindAllStringSubmatch(code, -1) {
			command, key := strings.TrimSpace(call[1]), strings.TrimSpace(call[2])
			name := luaLiteral.FindStringSubmatch(command)
			switch {
			case wrapping && key == "key":
			case name == nil:
				report(where, "calls a command that isn't a literal: "+command)
			case !s.keyless(strings.ToUpper(name[1])) && !s.isKey(key):
				report(where, fmt.Sprintf("%s is called on %s, which is not from KEYS", name[1], key))
			}
		}
		s.checkWrapped(where, code, report)
	}
}

// checkWrapped checks the calls of functions that take a key.
func (s *luaScript) checkWrapped(where, code string, report func(where, what string)) {
	for name, at := range s.wrappers {
		call := regexp.MustCompile(`(?:^|[^\w.])` + name + `\(([^()]*)`)
		if luaFunction.MatchString(code) {
			continue
		}
		for _, m := range call.FindAllStringSubmatch(code, -1) {
			args := strings.Split(m[1], ",")
			if at >= len(args) || !s.isKey(strings.TrimSpace(args[at])) {
				report(where, fmt.Sprintf("%s is called on %s, which is not from KEYS", name, m[1]))
			}
		}
	}
}

// isKey reports whether an expression is an entry of KEYS, or one of two.
func (s *luaScript) isKey(e string) bool {
	if m := luaEither.FindStringSubmatch(e); m != nil {
		return s.keys[m[1]] && s.keys[m[2]]
	}
	return luaKey.MatchString(e) || s.keys[e]
}

// luaWrappers returns the functions that have a parameter named key.
func luaWrappers(text string) map[string]int {
	out := map[string]int{}
	for _, m := range luaFunction.FindAllStringSubmatch(text, -1) {
		for i, param := range strings.Split(m[2], ",") {
			if strings.TrimSpace(param) == "key" {
				out[m[1]] = i
			}
		}
	}
	return out
}

// luaHead returns the comment on top of a script.
func luaHead(text string) string {
	var head []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "--") {
			break
		}
		head = append(head, line)
	}
	return strings.Join(head, "\n")
}

// luaKeys returns the locals whose value is just a KEYS entry.
func luaKeys(text string) map[string]bool {
	keys := map[string]bool{}
	for _, m := range luaLocal.FindAllStringSubmatch(text, -1) {
		names, values := strings.Split(m[1], ","), strings.Split(m[2], ",")
		for i, name := range names {
			if i < len(values) && luaKey.MatchString(strings.TrimSpace(strings.TrimRight(values[i], "; "))) {
				keys[strings.TrimSpace(name)] = true
			}
		}
	}
	return keys
}
