package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The answers of a completion: values, and what the shell does besides.
var (
	noFiles     = cobra.NoFileCompletions
	directories = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	yamlFiles   = cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt)
)

func oneOf(values ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
}

// orFile is for a value that may also be a file: the shell offers those where no value fits.
func orFile(values ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !strings.HasPrefix(v, typed) }),
			cobra.ShellCompDirectiveDefault
	}
}

// flagValues completes flags by name, or by command and name; for others the shell offers files.
func flagValues() map[string]cobra.CompletionFunc {
	values := map[string]cobra.CompletionFunc{
		"progress":  oneOf(progress.Modes...),
		"engine":    oneOf(container.EngineNames...),
		"suite":     oneOf(suite.Names()...),
		"arch":      oneOf(arch.Names()...),
		"toolchain": oneOf(kernel.Toolchains()...),
		"config":    orFile(kernel.Defconfig, kernel.VM),
		"kernel":    orFile("suite"),
		"variant":   oneOf("minbase", "standard"),
		"fs":        oneOf(form.FileSystems()...),
		"editor":    oneOf("menuconfig", "nconfig"),
		"export to": oneOf(export.Names()...),
		"init":      oneOf("sh"),
		"net":       oneOf("none", "user", "tap:"),
		"when":      oneOf("boot", "run"),
		"splats":    oneOf(checks.Policies...),
		"snapshot":  snapshotNames,
		"break":     kernelFunctions,
		"out":       directories, "share": directories, "report": directories, "keep": directories,
		"replay": recordingNames, "at": oneOf("end", "boot", "icount:"),
		"check json": nil, "check junit": nil, // files
		"check run":    noFiles,
		"format":       oneOf(whyFormats...),
		"run keep":     oneOf(keepUses...),
		"check record": oneOf(checks.AllRecords...),
	}
	for _, name := range strings.Fields(`set hostname timezone locale record size components archive mirror jobs
		kernel-mirror target append memory cpus timeout forward qemu-arg ex by expect print only older to wrote
		keep-boot`) {
		values[name] = noFiles
	}
	return values
}

// argValues completes the arguments of commands.
var argValues = map[string]cobra.CompletionFunc{
	"kimg why": recordingNames, "kimg recording rm": recordingNames, "kimg recording verify": recordingNames,
	"kimg recording export": recordingNames, "kimg recording import": nil, // files
	"kimg snapshot rm": snapshotNames, "kimg console": guestNames, "kimg verify": directories, "kimg sign": directories,
	"kimg check": yamlFiles, "kimg diff": nil, "kimg export": nil, "kimg decode": nil, // files
	"kimg toolchain relock": oneOf(toolchainTargets()...),
}

func toolchainTargets() (names []string) {
	for _, t := range toolchain.Targets() {
		names = append(names, string(t))
	}
	return names
}

func addCompletions(cmd *cobra.Command, values map[string]cobra.CompletionFunc) {
	add := func(f *pflag.Flag) {
		complete, ok := values[cmd.Name()+" "+f.Name]
		if !ok {
			complete = values[f.Name]
		}
		if complete != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails for a second one of a flag: there is none
		}
	}
	cmd.Flags().VisitAll(add) // LocalFlags would change how the usage is written
	cmd.PersistentFlags().VisitAll(add)
	if complete, ok := argValues[cmd.CommandPath()]; ok {
		cmd.ValidArgsFunction = complete
	} else if cmd.ValidArgs == nil && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = noFiles
	}
	for _, sub := range cmd.Commands() {
		addCompletions(sub, values)
	}
}

func completedOut(cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup("out"); f != nil && f.Changed {
		return f.Value.String()
	}
	sp, err := spec.Load(".")
	if err != nil {
		return spec.Default().Out
	}
	return sp.Out
}

func snapshotNames(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, _ := vm.Snapshots(completedOut(cmd)) // none to offer
	return others(given, list, func(s vm.Snapshot) string { return s.Name })
}

func recordingNames(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	list, _ := recording.List(completedOut(cmd)) // none to offer
	return others(given, list, func(r recording.Listed) string { return r.Name })
}

// others offers the names of a list that are not given yet.
func others[T any](given []string, list []T, name func(T) string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, l := range list {
		if n := name(l); !slices.Contains(given, n) {
			names = append(names, n)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func guestNames(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, g := range vm.RunningGuests() {
		if g.Console && len(given) == 0 {
			names = append(names, cobra.CompletionWithDesc(g.Name, g.Out))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// maxFunctions is how many names of functions are offered: a shell is slow with more.
const maxFunctions = 1000

// kernelFunctions offers functions by the beginning of their names, from System.map: vmlinux has hundreds of MB.
func kernelFunctions(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	text, err := os.ReadFile(filepath.Join(completedOut(cmd), artifact.SystemMap))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found := map[string]bool{}
	for line := range bytes.Lines(text) {
		// "ffffffff81000000 T name": nm(1) has the letters.
		f := bytes.Fields(line)
		if len(f) < 3 || !bytes.Contains([]byte("tTwW"), f[1]) || !bytes.HasPrefix(f[2], []byte(typed)) {
			continue
		}
		if bytes.HasPrefix(f[2], []byte("__pfx_")) { // no function, but what is before one
			continue
		}
		if found[string(f[2])] = true; len(found) == maxFunctions {
			break
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}
