# Applies patches to copies of the files that they change, beside the tree. What
# to do comes as a tar: files, plan, s/PATCH.SECTION for GNU patch, n/ for fixes.
# The results go to stdout, a line each:
#
#   L FILE KIND                  the original: absent, f (plain), x (executable)
#   X FILE WHAT                  it cannot be patched where it is
#   S PATCH SECTION STATUS       the status of a section; "| " lines of GNU patch follow
#   K PATCH                      a fix that the tree does not need
#
# blanks says that what GNU patch rejects differs from the tree in blanks and tabs only.
# Names that come from a patch are arguments only after load has checked them.
set -eu
umask 022
src=$1 store=$2 work=$3
rm -rf "$work"
mkdir -p "$work/f"
cd "$work"
tar -x

declare -A made
while IFS= read -r path; do made["$path"]=1; done < made

load() { # FILE FROM STORED PATH
	local way=$4
	while [[ $way == */* ]]; do
		way=${way%/*}
		if [[ -L $src/$way ]]; then echo "X $1 link"; return; fi
		if [[ -e $src/$way && ! -d $src/$way && -z ${made[$way]+x} ]]; then echo "X $1 below"; return; fi
	done
	if [[ $2 == stored ]]; then
		cp -p "$store/$3" "f/$1"
	elif [[ $2 == tree ]]; then
		if [[ -L $src/$4 ]]; then echo "X $1 link"; return; fi
		if [[ -e $src/$4 && ! -f $src/$4 ]]; then echo "X $1 other"; return; fi
		if [[ -e $src/$4 ]]; then cp -p "$src/$4" "f/$1"; fi
	fi
	if [[ ! -e f/$1 ]]; then echo "L $1 absent"; elif [[ -x f/$1 ]]; then echo "L $1 x"; else echo "L $1 f"; fi
}
while IFS=$'\t' read -r file from stored path; do load "$file" "$from" "$stored" "$path"; done < files

status=ok
section() { # PATCH SECTION OP FROM TO MODE HUNKS
	case $3 in
	m | d) if [[ ! -e f/$4 ]]; then status=missing; return; fi ;;
	c) if [[ -s f/$4 ]]; then status=exists; return; fi; : > "f/$4" ;;
	r | k)
		if [[ ! -e f/$4 ]]; then status=missing; return; fi
		if [[ -e f/$5 ]]; then status=exists; return; fi
		cp -p "f/$4" "f/$5"
		if [[ $3 == r ]]; then rm "f/$4"; fi ;;
	esac
	if [[ $7 != 0 ]]; then
		rm -f before.file
		if [[ -e f/$5 ]]; then cp "f/$5" before.file; fi
		if ! patch --batch --forward --binary --no-backup-if-mismatch --fuzz=2 --reject-file=- \
			"f/$5" "s/$1.$2" > out 2>&1; then
			status=reject
			if [[ -e before.file ]] && patch --batch --forward --binary --dry-run --ignore-whitespace --fuzz=0 \
				before.file "s/$1.$2" > blanks 2>&1; then
				status=blanks
			fi
			return
		fi
	fi
	if [[ $3 == d ]]; then
		if [[ -s f/$4 ]]; then status=left; return; fi
		rm "f/$4"
	fi
	case $6 in
	x) chmod 755 "f/$5" ;;
	f) chmod 644 "f/$5" ;;
	esac
}

kind=own skip=0 failed=0
while IFS=$'\t' read -r what p a b c d e g; do
	case $what in
	B)
		kind=$a skip=0 failed=0
		if [[ $kind == fix ]]; then rm -rf before; cp -a f before; fi ;;
	N)
		there=0
		if [[ -e f/$a ]] && grep -qxF -f "n/$b" "f/$a"; then there=1; fi
		if [[ $there != "$c" ]]; then skip=1; fi ;;
	F)
		if [[ $skip == 1 ]]; then continue; fi
		status=ok
		: > out
		section "$p" "$a" "$b" "$c" "$d" "$e" "$g"
		echo "S $p $a $status"
		sed 's/^/| /' out
		if [[ $status != ok ]]; then failed=1; fi ;;
	E)
		if [[ $skip == 1 ]]; then echo "K $p"
		elif [[ $failed == 1 && $kind == fix ]]; then rm -rf f; mv before f # a fix is left out whole
		elif [[ $failed == 1 ]]; then exit 0
		fi ;;
	esac
done < plan
