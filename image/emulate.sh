# emulate.sh EMULATOR FORMAT COMMAND...
# Runs a command in a user namespace in which programs of another architecture run, by EMULATOR, a static program of
# qemu-user. FORMAT is what the namespace's binfmt_misc is told (Linux 6.7): the machine's own is not touched, and what
# was told goes with the namespace. Where that may not be, the command runs all the same, since the machine may run
# such programs by itself; its failure is then status 97.
set -u
emulator=$1 format=$2
shift 2
dir=$(mktemp -d)

# The container may own a user namespace already: that of the embedded engine, with SYS_ADMIN.
if mount -t binfmt_misc binfmt_misc "$dir" 2>/dev/null; then
	printf %s "$format" >"$dir/register" && echo "I: foreign programs are run by $emulator" >&2
	exec "$@"
fi

# Else it gets one below it. Who is outside maps its ids: until then its process has its rights by --keep-caps.
exec 3<&0
unshare --user --mount --keep-caps sh -c '
	: >"$0/made"
	until test -e "$0/mapped"; do sleep 0.05; done
	mount -t binfmt_misc binfmt_misc "$0/format" && printf %s "$2" >"$0/format/register" || exit
	: >"$0/ran"
	echo "I: foreign programs are run by $1, in a user namespace" >&2
	shift 2
	exec "$@"' "$dir" "$emulator" "$format" "$@" <&3 &
pid=$!
mkdir "$dir/format"
until test -e "$dir/made" || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
for map in uid_map gid_map; do
	test ! -e "$dir/made" || echo "0 0 4294967295" >/proc/$pid/$map
done
: >"$dir/mapped"
wait $pid
status=$?
test ! -e "$dir/ran" || exit $status
"$@" <&3 || exit 97
