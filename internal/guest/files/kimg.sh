# What kimg tells a login shell on the serial console, on the kernel's command line:
# kimg.term, kimg.rows and kimg.cols of the person's terminal, and kimg.exit, what
# the end of this shell means. Sourced by /etc/profile; leaves no variable behind.
kimg_profile() {
	case $(tty) in
	/dev/ttyS0 | /dev/console) ;;
	*) return ;;
	esac
	local word dir rows= cols= leave=
	for word in $(cat /proc/cmdline); do
		case $word in
		kimg.rows=*) rows=${word#*=} ;;
		kimg.cols=*) cols=${word#*=} ;;
		kimg.exit=clean | kimg.exit=now) leave=${word#*=} ;;
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
	[ -z "$leave" ] || trap "/usr/lib/kimg/agent leave $leave" EXIT
}
kimg_profile
unset -f kimg_profile
