package builder_test

import (
	"context"
	"fmt"
	"log"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
)

// A kernel and a root filesystem, from two names.
func ExampleBuild() {
	sp := spec.Default()
	sp.Kernel, sp.Suite, sp.Out = "4.20.6", "bionic", "out"
	manifest, err := builder.Build(context.Background(), builder.Env{}, sp)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range manifest.Build.Artifacts {
		fmt.Println(a.SHA256, a.Path)
	}
}

// What a lock pins, resolved and planned without building anything.
func ExampleResolve() {
	sp := spec.Default()
	request, err := sp.Request()
	if err != nil {
		log.Fatal(err)
	}
	sources, err := builder.NewSources(builder.Env{}, sp.Sources, sp.Suite)
	if err != nil {
		log.Fatal(err)
	}
	defer sources.Close()
	lock, err := builder.Resolve(context.Background(), sources, request, nil)
	if err != nil {
		log.Fatal(err)
	}
	plan, err := builder.NewPlan(lock)
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range plan.All {
		fmt.Println(step.ID, step.ActionID())
	}
}
