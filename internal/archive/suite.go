package archive

import "github.com/kimg/kimg/internal/suite"

// Suite is a row of the table of suites.
type Suite = suite.Suite

// ParseSuite reads a suite's codename.
func ParseSuite(s string) (Suite, error) { return suite.Parse(s) }
