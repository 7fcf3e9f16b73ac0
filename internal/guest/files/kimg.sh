# What kimg tells a login shell on the serial console. The kernel's command line has
# kimg.term, kimg.rows and kimg.cols of the person's terminal; a port named kimg.login
# means that a host waits to be told of the shell. Sourced by /etc/profile.
kimg_profile() {
	case $(tty) in
	/dev/ttyS0 | /dev/console) ;;
	*) return ;;
	esac
	local word dir port name rows= cols=
	for word in $(cat /proc/cmdline); do
		case $word in
		kimg.rows=*) rows=${word#*=} ;;
		kimg.cols=*) cols=${word#*=} ;;
		kimg.term=*[!-+._0-9A-Za-z]*) ;;
		kimg.term=?*)
			word=${word#*=}
			for dir in /etc/terminfo /lib/terminfo /usr/share/terminfo; do
				[ ! -e "$dir/${word%"${word#?}"}/$word" ] || export TERM="$word"
			done
			;;
		esac
	done
	# The size may have changed since the boot: the agent keeps the last one.
	[ ! -r /run/kimg/winsize ] || read -r rows cols </run/kimg/winsize
	[ -z "$rows" ] || [ -z "$cols" ] || stty rows "$rows" cols "$cols" 2>/dev/null
	for port in /sys/class/virtio-ports/*; do
		[ -r "$port/name" ] && read -r name <"$port/name" && [ "$name" = kimg.login ] || continue
		echo login >"/dev/${port##*/}"
		trap 'echo logout "$?" >/dev/'"${port##*/}" EXIT
	done
}
kimg_profile
unset -f kimg_profile
