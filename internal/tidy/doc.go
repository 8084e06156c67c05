// Package tidy holds the rules of the house as tests: who may import whom, how
// long files and functions get, which calls are banned where, and that the
// documents say what the code says. It has no code of its own.
//
// It looks at sources only and knows nothing of what they do; whether a
// promise is kept is for the other tests to find out.
package tidy
