# bootstrap.sh WORK SUITE ARCH SCRIPT [OPTION]...
# Runs debootstrap on the tree that comes from stdin, in which the required packages are unpacked, and on what somebody
# else puts into WORK as base.tar while these are configured; and writes the tree that it makes as a tar to stdout.
# Everything else goes to stderr.
set -eu
work=$1 suite=$2 arch=$3 script=$4
shift 4

mkdir -p "$work/target"
tar --extract --directory="$work/target"
tar --create --file="$work/empty.tar" --files-from=/dev/null

# The suite's own script, but what is unpacked is not unpacked again, and dpkg's database has it from when
# debootstrap would have had dpkg unpack it. The engine's machine does not write all its files to its disks, and what
# says yes to dpkg's questions does not do so with 65536 system calls each time.
cat >"$work/script" <<EOF
. "\$DEBOOTSTRAP_DIR/scripts/$script"
extract () { :; }
sync () { :; }
smallyes () { yes "\${1-y}" 2>/dev/null || :; }
in_target () {
	case \$* in
	/bin/true) note required ;; # the second stage begins
	esac
	in_target_failmsg IN_TARGET_FAIL "Failure trying to run: %s" "\$CHROOT_CMD \$*" "\$@"
}
info () {
	case \$1 in
	UNPACKBASE) lay_base ;;
	esac
	shift
	format=\$1
	shift
	printf "I: \$format\n" "\$@" >&4
}
note () { cat "\$TARGET/debootstrap/\$1.status" >>"\$TARGET/var/lib/dpkg/status"; }
lay_base () {
	until [ -e "$work/base.tar" ]; do sleep 0.05; done
	tar --extract --directory="\$TARGET" --file="$work/base.tar"
	rm "$work/base.tar"
	: >"$work/laid"
	note base
	mv "\$TARGET/debootstrap/all.debpaths" "\$TARGET/debootstrap/debpaths"
	base=\$(cat "\$TARGET/debootstrap/base.packages")
}
EOF

# The mirror is only the name under which the index is found.
if ! debootstrap --unpack-tarball="$work/empty.tar" "$@" "$suite" "$work/target" http://kimg "$work/script" >&2; then
	for log in "$work/target/debootstrap/debootstrap.log" "$work/target/var/log/bootstrap.log"; do
		if [ -e "$log" ]; then
			echo "--- $log" >&2
			cat "$log" >&2
		fi
	done
	exit 1
fi
if ! [ -e "$work/laid" ]; then
	echo "E: the base's packages were never unpacked" >&2
	exit 1
fi
if grep '^Status: .* unpacked$' "$work/target/var/lib/dpkg/status" >&2; then
	echo "E: packages are unpacked and were never configured" >&2
	exit 1
fi
exec tar --create --blocking-factor=512 --directory="$work/target" --format=posix --numeric-owner --one-file-system \
	--xattrs --xattrs-include='*' --exclude='./var/cache/apt/archives/*.deb' .
