// Package tidy has the rules of this repository, as tests: the conventions that a program can
// check.
//
// Each rule is a function over the parsed tree, with the reason it prints when it is broken.
// TestTidy applies all of them to the repository; TestRules_FindWhatTheyShould applies them to the
// small bad trees in testdata, so that a rule that finds nothing any more is noticed.
//
// Exceptions are entries of the tables in policy_test.go, each with its reason. A rule that is
// wrong is to be changed here, in a commit that says why; it is not to be worked around.
//
// It does not type-check against other packages, needs no network, and looks at no history.
package tidy
