package gateway

import "github.com/penstock/penstock/seckill"

// plainPurchase reads a purchase in the form that nearly every client sends: one object with the
// four fields, each once, in any order, texts of visible ASCII without a backslash, and a number of
// digits only. It reports false for any other body, valid or not. It may have changed p then, and
// the full decoder reads the body again. Every body that it accepts is accepted by the full decoder
// with the same result. It is there for speed: the full decoder needs five passes.
//
// p points into body afterwards.
func plainPurchase(body []byte, p *seckill.Purchase) bool {
	s := scanner{rest: body}
	s.token('{')
	var seen uint32
	for n := 0; n < 4; n++ {
		if n > 0 {
			s.token(',')
		}
		key := s.text(len("activity"))
		s.token(':')
		var bit uint32
		switch string(key) {
		case "activity":
			bit, p.Activity = 1, seckill.ActivityID(view(s.text(seckill.MaxNameLength)))
		case "sku":
			bit, p.SKU = 2, seckill.SKU(view(s.text(seckill.MaxNameLength)))
		case "user":
			bit, p.User = 4, seckill.UserID(view(s.text(seckill.MaxUserLength)))
		case "quantity":
			bit, p.Quantity = 8, s.number(seckill.MaxQuantity)
		}
		if s.odd || bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
	s.token('}')
	s.space()
	return !s.odd && len(s.rest) == 0
}

// scanner reads tokens. It sets odd when a token isn't in the plain form.
type scanner struct {
	rest []byte
	odd  bool
}

// space skips the white space of JSON.
func (s *scanner) space() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		default:
			return
		}
	}
}

// token skips white space and reads one character.
func (s *scanner) token(c byte) {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		s.odd = true
		return
	}
	s.rest = s.rest[1:]
}

// text reads a string of 1 to most plain characters.
func (s *scanner) text(most int) []byte {
	s.token('"')
	for i, c := range s.rest[:min(len(s.rest), most+1)] {
		if c == '"' && i > 0 {
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		}
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			break
		}
	}
	s.odd = true
	return nil
}

// number reads a whole number from 1 to most.
func (s *scanner) number(most int) int {
	s.space()
	n, digits := 0, 0
	for digits < len(s.rest) && n <= most {
		c := s.rest[digits]
		if c < '0' || c > '9' || c == '0' && n == 0 {
			break
		}
		n = 10*n + int(c-'0')
		digits++
	}
	s.rest = s.rest[digits:]
	// What follows must be a token. A point or an exponent is not one.
	s.odd = s.odd || n == 0 || n > most
	return n
}
