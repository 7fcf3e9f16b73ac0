package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/spf13/cobra"
)

// passphraseEnv has the passphrase where there is no terminal to ask for it.
const passphraseEnv = "KIMG_SIGN_PASSPHRASE"

type signFlag struct {
	cmd  *cobra.Command
	file string
}

func addSignFlag(cmd *cobra.Command) *signFlag {
	f := &signFlag{cmd: cmd}
	cmd.Flags().StringVar(&f.file, "sign-key", "",
		"sign provenance.json with the private key in `FILE`, of openssl, ssh-keygen or cosign "+
			"(default: KIMG_SIGN_KEY)")
	return f
}

// read reads the key that the flag names, or kimg.yaml, or the environment; nil when none of them does. It comes
// before anything else: a wrong key is reported and a passphrase asked for while the user is still at the terminal.
func (f *signFlag) read(a *app, sp spec.Spec) (*attest.Key, error) {
	file := f.file
	if !f.cmd.Flags().Changed("sign-key") {
		file = cmp.Or(sp.SignKey, os.Getenv("KIMG_SIGN_KEY"))
	}
	if file == "" {
		return nil, nil
	}
	return attest.ReadKey(file,
		func() ([]byte, error) { return passphrase(f.cmd.Context(), file) },
		func(warning string) { fmt.Fprintf(a.stderr, "kimg: %s\n", warning) })
}

// passphrase is that of the environment, or what the user types.
func passphrase(ctx context.Context, file string) ([]byte, error) {
	if p, ok := os.LookupEnv(passphraseEnv); ok {
		return []byte(p), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("it is encrypted, and there is no terminal to ask for its passphrase: " +
			passphraseEnv + " may hold it")
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Passphrase of %s: ", file)
	defer fmt.Fprintln(tty)
	text, err := terminal.ReadPassword(ctx, tty)
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	return text, nil
}

func (a *app) sign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign [DIR]",
		Short: "Sign an existing build",
		Long: `Sign the provenance of a build (the last one, or that in DIR), for kimg verify --key and
for other tools: it may be another machine than the one that built, and needs no container
engine. The build is checked first, as kimg verify does: a build that was changed is not
signed. Signatures of other keys stay.`,
		Example: `  kimg sign --sign-key ~/.ssh/id_ed25519
  kimg sign --sign-key release.pem ./kimg-out`,
		Args: atMost(1, ""),
	}
	flag := addSignFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sp, err := spec.Load(".")
		if err != nil {
			return err
		}
		dir := sp.Out
		if len(args) == 1 {
			dir = args[0]
		}
		key, err := flag.read(a, sp)
		if err != nil {
			return err
		}
		if key == nil {
			return usageError{cmd,
				errors.New("no key: name one with --sign-key, KIMG_SIGN_KEY, or sign-key in kimg.yaml")}
		}
		return a.withEnv(func(env builder.Env, done func()) error {
			env.Sign = key
			v, err := a.actions.verify.sign(cmd.Context(), env, dir)
			if err != nil {
				return noBuild(err)
			}
			done()
			if len(v.Faults) > 0 {
				return a.showVerified(v, false)
			}
			return nil
		})
	}
	return cmd
}
