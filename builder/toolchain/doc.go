// Package toolchain makes the images that kernels compile in and that disk images are made in. A base is made in Go
// from verified packages as a tar stream, imported, and finished by Dockerfile.builder from a folder of packages,
// without a network and without a registry. Which packages those are is locked, to the digest, in files that ship
// with kimg; an image's tag is the hash of all that goes into it. Which kernel takes which toolchain is decided in
// package kernel.
package toolchain
