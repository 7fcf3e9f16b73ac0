package toolbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A process that ends while the script looks at it, as a relay does, makes grep fail though it has found the program.
func TestKillScriptBesideOthersThatEnd(t *testing.T) {
	real, err := exec.LookPath("grep")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	gone := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" /proc/none/cmdline\n", real)
	if err := os.WriteFile(filepath.Join(dir, "grep"), []byte(gone), 0o755); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command("sleep", "60")
	victim.Args[0] = fmt.Sprint("kimg-test-victim-", os.Getpid())
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	name := victim.Args[0]
	script := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf(killScript, name[0], name[1:]))
	script.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	ended := make(chan error, 1)
	go func() { ended <- victim.Wait() }()
	if out, err := script.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	select { // the script returned, so it has no command line any more; its end arrives at once
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it still runs")
		_ = victim.Process.Kill()
		<-ended
	}
}
