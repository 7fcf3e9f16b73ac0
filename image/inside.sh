# inside.sh WORK COMMAND...
# Runs shell commands in the tree that comes from stdin as a tar, one after another. Writes the status of each to stdout,
# as a line; and, where all were 0, the tree that they leave, as a tar. Everything else goes to stderr.
set -eu
work=$1
shift
tree=$work/target

mkdir -p "$tree"
tar --extract --directory="$tree" --numeric-owner --xattrs --xattrs-include='*'

# What a command has left running is ended, whoever it runs as: root may not send signals to others.
end () {
	tries=0
	while kill -KILL -1 2>/dev/null; do
		for user in $(stat --format=%u /proc/[0-9]* 2>/dev/null | sort -u); do
			test "$user" = 0 || chroot --userspec="+$user" / sh -c 'kill -KILL -1' 2>/dev/null || :
		done
		tries=$((tries + 1))
		if test $tries = 100; then
			echo "E: processes do not end:" $(cat /proc/[0-9]*/comm) >&2
			exit 1
		fi
		sleep 0.05
	done
}

for command; do
	status=0
	env --ignore-environment HOME=/root LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 \
		chroot "$tree" /bin/sh -c "exec $command" </dev/null >&2 || status=$?
	end
	echo $status
	test $status = 0 || exit 0
done
exec tar --create --directory="$tree" --format=posix --numeric-owner --one-file-system \
	--xattrs --xattrs-include='*' .
