package spec

import (
	"fmt"
	"slices"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/form"
)

// Form is what the root filesystem is made as; the zero value is ext4.
type Form = form.Form

// form reads --fs and --initramfs.
func (s Spec) form() (Form, error) {
	f, err := form.Parse(s.FS)
	if err != nil {
		return f, s.Wrong("--fs", s.FS, err)
	}
	if s.Initramfs && f != form.Ext4 {
		return f, s.Wrong("--initramfs", s.Initramfs, fmt.Errorf("an initramfs is in memory, and --fs %s makes a "+
			"disk: leave one of them out", f))
	}
	if s.Initramfs {
		f = form.Initramfs
	}
	return f, nil
}

// checkForm is of the values alone.
func (s Spec) checkForm() error {
	f, err := s.form()
	switch {
	case err != nil:
		return err
	case !f.Sized() && s.Size != Smallest && s.Size != Default().Size:
		return s.Wrong("--size", s.Size, fmt.Errorf("the size of %s follows from its files: leave it out", f))
	}
	return nil
}

// formSize is the size that a form has.
func (s Spec) formSize(f Form) DiskSize {
	if !f.Sized() {
		return Smallest
	}
	return s.Size
}

// formOrigin is who asks for what a form needs.
const formOrigin = "the form of the root filesystem"

// OfForm says that a request follows from the root filesystem's form.
func OfForm(r kernel.Request) bool { return r.Origin == formOrigin }

// KernelConfig is what the kernel is configured from: what the user asked for, over what the root filesystem's form
// needs. That is only asked for where the base is kimg's own or the tree's: a config of the user's is as it is.
func (l *Lock) KernelConfig() (kernel.Config, error) {
	c, err := l.Config.Parse(l.Arch)
	if err != nil || !kernel.Builtin(l.Config.Base) {
		return c, err
	}
	var needed []kernel.Request
	for _, symbol := range l.Image.Form.Symbols() {
		asked := slices.ContainsFunc(c.Requests, func(r kernel.Request) bool { return r.Symbol == symbol })
		if !asked { // else what the user said stands, and no key moves
			needed = append(needed, kernel.Request{Symbol: symbol, Value: "y", Origin: formOrigin})
		}
	}
	c.Requests = append(needed, c.Requests...)
	return c, nil
}
