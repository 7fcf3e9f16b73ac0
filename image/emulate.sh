# emulate.sh DIR WAY EMULATOR FORMAT CAPABILITIES COMMAND...
# Runs a command with which programs of another architecture run, by EMULATOR, a static program of qemu-user, in a way
# that WAY names, or in the first one that works. DIR has such a program that exits with 42, probe, and, where kimg is a
# program of this machine, kimg itself as kimg-trace. Which way it was is a line on stderr; where there is none, that is
# the last line. The command gets CAPABILITIES ("+chown,+setuid") and no others in any case: with more, debootstrap
# mounts /proc, and the tree is another one.
set -u
here=$1 way=$2 emulator=$3 format=$4 caps=$5
shift 5
dir=$(mktemp -d)
mkdir "$dir/format"
limit="setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all,$caps"
reasons=
wanted () { test -z "$way" || test "$way" = "$1"; }
# A shell takes a program that the kernel does not know for a script: the probe is none that exits with 42.
works () {
	"$@" "$here/probe" >>"$dir/why" 2>&1 </dev/null
	test $? = 42
}
say () { echo "I: foreign programs are run by $1" >&2; }
no () {
	reasons="${reasons:+$reasons; }$1: $(tr '\n' ' ' <"$dir/why" | tr -cd '[:print:]' | cut -c1-150 | sed 's/ *$//')"
	rm "$dir/why"
}

# namespace: FORMAT is what binfmt_misc of a user namespace is told (Linux 6.7): the machine's own is not touched, and
# what was told goes with the namespace. The container may own one already, with SYS_ADMIN in it: the embedded engine's.
# (The number is that of the kernel's first one, PROC_USER_INIT_INO, which has the machine's own formats.)
if wanted namespace && test "$(readlink /proc/self/ns/user)" != "user:[4026531837]" &&
	mount -t binfmt_misc binfmt_misc "$dir/format" 2>>"$dir/why"; then
	if printf %s "$format" >"$dir/format/register" && works; then
		say "$emulator of the imaging image, for this container alone"
		exec $limit "$@"
	fi
	umount "$dir/format"
fi

# Else it gets one below it, of the same ids. Who is outside maps them: until then its process has its rights by
# --keep-caps.
if wanted namespace; then
	exec 3<&0
	unshare --user --mount --keep-caps sh -c '
		: >"$0/made"
		until test -e "$0/mapped"; do sleep 0.05; done
		mount -t binfmt_misc binfmt_misc "$0/format" && printf %s "$3" >"$0/format/register" || exit
		"$1/probe" </dev/null
		test $? = 42 || exit
		: >"$0/ran"
		echo "I: foreign programs are run by $2 of the imaging image, in a user namespace of its own" >&4
		limit=$4
		shift 4
		exec $limit "$@" 2>&4 4>&-' \
		"$dir" "$here" "$emulator" "$format" "$limit" "$@" <&3 3<&- 4>&2 2>>"$dir/why" &
	pid=$!
	until test -e "$dir/made" || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
	for map in uid_map gid_map; do
		ids=$(while read -r id _ count; do echo "$id $id $count"; done </proc/self/$map)
		test ! -e "$dir/made" || echo "$ids" >/proc/$pid/$map
	done
	: >"$dir/mapped"
	wait $pid
	status=$?
	test ! -e "$dir/ran" || exit $status
	exec 3<&-
	no namespace
fi

# machine: what the machine knows by itself. What a shell says of the probe, where it is none, is not for people.
if wanted machine; then
	if works; then
		say "what the engine's machine has for them"
		exec $limit "$@"
	fi
	echo "no such format is registered" >"$dir/why"
	no machine
fi

# trace: see kimg's package foreign.
if wanted trace; then
	trace=$here/kimg-trace
	if ! test -e "$trace"; then
		echo "kimg is no program of the engine's machine" >"$dir/why"
	elif works "$trace" "$format"; then
		say "$emulator of the imaging image, which kimg puts in their place (ptrace)"
		exec "$trace" "$format" $limit "$@"
	else
		echo "kimg could not trace" >>"$dir/why"
	fi
	no trace
fi
echo "E: foreign programs cannot be run: $reasons" >&2
exit 1
