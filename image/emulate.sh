# emulate.sh EMULATOR FORMAT CAPABILITIES COMMAND...
# Runs a command in a user namespace in which programs of another architecture run, by EMULATOR, a static program of
# qemu-user. FORMAT is what the namespace's binfmt_misc is told (Linux 6.7): the machine's own is not touched, and what
# was told goes with the namespace. Where that may not be, the command runs all the same: the machine may know such
# programs by itself. Which of these it was is a line on stderr. The command gets CAPABILITIES ("+chown,+setuid") and no
# others in any case: with more, debootstrap mounts /proc, and the tree is another one.
set -u
emulator=$1 format=$2 caps=$3
shift 3
dir=$(mktemp -d)

# The container may own a user namespace already, with SYS_ADMIN in it: the embedded engine's. (The number is that of
# the kernel's first one, PROC_USER_INIT_INO, which has the machine's own formats.)
if test "$(readlink /proc/self/ns/user)" != "user:[4026531837]" &&
	mount -t binfmt_misc binfmt_misc "$dir" 2>/dev/null; then
	printf %s "$format" >"$dir/register" &&
		echo "I: foreign programs are run by $emulator of the imaging image, for this container alone" >&2
	exec setpriv --inh-caps=-all --bounding-set="-all,$caps" "$@"
fi

# Else it gets one below it, of the same ids. Who is outside maps them: until then its process has its rights by
# --keep-caps.
exec 3<&0
unshare --user --mount --keep-caps sh -c '
	: >"$0/made"
	until test -e "$0/mapped"; do sleep 0.05; done
	mount -t binfmt_misc binfmt_misc "$0/format" && printf %s "$2" >"$0/format/register" || exit
	: >"$0/ran"
	echo "I: foreign programs are run by $1 of the imaging image, in a user namespace of its own" >&2
	caps=$3
	shift 3
	exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set="-all,$caps" "$@"' \
	"$dir" "$emulator" "$format" "$caps" "$@" <&3 &
pid=$!
mkdir "$dir/format"
until test -e "$dir/made" || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
for map in uid_map gid_map; do
	ids=$(while read -r id _ count; do echo "$id $id $count"; done </proc/self/$map)
	test ! -e "$dir/made" || echo "$ids" >/proc/$pid/$map
done
: >"$dir/mapped"
wait $pid
status=$?
test ! -e "$dir/ran" || exit $status
echo "I: foreign programs are run by what the engine's machine has for them" >&2
exec "$@" <&3
