package main

import "fmt"

func attack(arg []string) error { return fmt.Errorf("there is no %q", arg[0]) }
