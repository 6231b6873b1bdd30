// Package field says what is wrong with a document, field by field.
//
//	var errs field.Errors
//	errs = append(errs, field.Error{Field: "items[3].price", Detail: "must be above 0"})
//
// It promises a text for logs and shells; listeners and ctl show the fields one by one. It does not
// bound the number of mistakes.
package field

import "strings"

// Error says what is wrong with one field.
type Error struct {
	Field  string // in the form in which the user writes it: policies[3].rate
	Detail string
}

// Errors has everything that is wrong with a document. An empty list is not an error: check its
// length before you return it as an error.
type Errors []Error

// Error implements error.
func (e Errors) Error() string {
	var b strings.Builder
	for i, f := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Field + ": " + f.Detail)
	}
	return b.String()
}
