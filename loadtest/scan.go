package loadtest

// scanner walks the members of one JSON object without building anything: an answer is looked at
// for three short strings, fifteen thousand times a second, beside the server it measures. It
// accepts some texts that are no JSON (it doesn't check the order of closing brackets inside values
// it skips); whoever needs certainty decodes with encoding/json.
type scanner struct {
	text []byte
	at   int
}

// scanObject calls visit for each member of the object in text, with the value as it is written:
// strings without their quotes, everything else as it stands. It reports whether text is an object
// that could be walked to its end. Names and strings with escapes come as written too; none of the
// contract's names, codes and ids has any.
func scanObject(text []byte, visit func(name, value []byte, isString bool)) bool {
	s := scanner{text: text}
	if s.space(); !s.take('{') {
		return false
	}
	if s.space(); s.take('}') {
		return true
	}
	for {
		s.space()
		name, ok := s.quoted()
		if !ok {
			return false
		}
		if s.space(); !s.take(':') {
			return false
		}
		s.space()
		isString := s.at < len(s.text) && s.text[s.at] == '"'
		value, ok := s.value()
		if !ok {
			return false
		}
		visit(name, value, isString)
		s.space()
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// quoted reads a string and returns what is between its quotes.
func (s *scanner) quoted() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	start := s.at
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '\\':
			s.at += 2
		case '"':
			s.at++
			return s.text[start : s.at-1], true
		default:
			s.at++
		}
	}
	return nil, false
}

// value reads a value of any kind; objects and arrays are skipped by counting their brackets.
func (s *scanner) value() ([]byte, bool) {
	if s.at < len(s.text) && s.text[s.at] == '"' {
		return s.quoted()
	}
	start, depth := s.at, 0
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '"':
			if _, ok := s.quoted(); !ok {
				return nil, false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return s.text[start:s.at], s.at > start
			}
			if c == '}' || c == ']' {
				if depth--; depth == 0 {
					s.at++
					return s.text[start:s.at], true
				}
			}
		}
		s.at++
	}
	return nil, false
}
