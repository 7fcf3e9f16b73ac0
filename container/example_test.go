package container_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/container"
)

// A Cmd says what a process may do; this one may do nothing but write to its standard output.
func ExampleRun() {
	ctx := context.Background()
	eng, err := container.Connect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	err = container.Run(ctx, eng, &container.Cmd{
		Image: "busybox", Args: []string{"sh", "-c", "id; exit 3"}, User: "1000:1000", ReadOnly: true,
		Stdout: os.Stdout, Stderr: os.Stderr,
	})
	var exit *container.ExitError
	if errors.As(err, &exit) {
		fmt.Println("its exit status is", exit.Code)
	}
}

// A container that waits takes several commands and files.
func ExampleEngine() {
	ctx := context.Background()
	eng, err := container.Connect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	c, err := eng.Create(ctx, &container.Cmd{Image: "busybox", Args: []string{"sleep", "infinity"}, Init: true})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Remove(ctx)
	tar, err := os.Open("input.tar")
	if err != nil {
		log.Fatal(err)
	}
	defer tar.Close()
	if err := c.CopyIn(ctx, "/tmp", tar); err != nil {
		log.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		log.Fatal(err)
	}
	for _, args := range [][]string{{"ls", "-l", "/tmp"}, {"sha256sum", "/tmp/input"}} {
		if err := c.Exec(ctx, &container.ExecCmd{Args: args, Stdout: os.Stdout}); err != nil {
			log.Fatal(err)
		}
	}
}

// Connect says what it tried, and what the user can do about it.
func ExampleConnect() {
	os.Setenv("DOCKER_HOST", "unix:///none/docker.sock")
	defer os.Unsetenv("DOCKER_HOST")
	_, err := container.Connect(context.Background())
	var none *container.ConnectError
	if errors.As(err, &none) {
		for _, a := range none.Tried {
			fmt.Printf("%s: %v\n", a.Host, a.Err)
		}
	}
	fmt.Println(errors.Is(err, container.ErrNoEngine))
	// Output:
	// unix:///none/docker.sock (DOCKER_HOST): no such socket
	// true
}

// The engine that is part of the program needs neither a daemon nor root.
func ExampleEmbedded() {
	ctx := context.Background()
	dir, err := os.UserCacheDir()
	if err != nil {
		log.Fatal(err)
	}
	eng, err := container.Embedded(ctx, filepath.Join(dir, "my-engine"))
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	tree, err := os.Open("busybox.tar") // a root filesystem
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	if err := eng.Import(ctx, "busybox", tree); err != nil {
		log.Fatal(err)
	}
	if err := container.Run(ctx, eng, &container.Cmd{
		Image: "busybox", Args: []string{"id"}, Stdout: os.Stdout,
	}); err != nil {
		log.Fatal(err)
	}
}
