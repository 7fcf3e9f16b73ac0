# bootstrap.sh WORK SUITE ARCH SCRIPT [OPTION]...
# Runs debootstrap on the packages in WORK/unpack and writes the tree as a tar to
# stdout. Everything else goes to stderr.
set -eu
work=$1 suite=$2 arch=$3 script=$4
shift 4

# debootstrap asks dpkg for packages that others pre-depend on, and dpkg needs an
# index for that, with file names. The packages' own control files are one.
cd "$work/unpack"
for deb in var/cache/apt/archives/*.deb; do
	dpkg-deb --field "$deb"
	printf 'Filename: %s\n\n' "$deb"
done >"var/lib/apt/lists/kimg_dists_${suite}_main_binary-${arch}_Packages"
tar --create --file=../unpack.tar .
cd /

# The mirror is only the name under which the index is found.
if ! debootstrap --unpack-tarball="$work/unpack.tar" "$@" "$suite" "$work/target" http://kimg "$script" >&2; then
	for log in "$work/target/debootstrap/debootstrap.log" "$work/target/var/log/bootstrap.log"; do
		if [ -e "$log" ]; then
			echo "--- $log" >&2
			cat "$log" >&2
		fi
	done
	exit 1
fi
rm -rf "$work/unpack" "$work/unpack.tar"
exec tar --create --directory="$work/target" --format=posix --numeric-owner --one-file-system \
	--xattrs --xattrs-include='*' .
