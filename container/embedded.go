package container

import (
	"context"
	"errors"
)

// Embedded is the engine inside kimg.
func Embedded(context.Context, string) (Engine, error) { return nil, errors.ErrUnsupported }
