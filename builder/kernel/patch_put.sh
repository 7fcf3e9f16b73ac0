# Puts what patch_try.sh made into the tree, where it differs, and keeps the
# originals. The first line of its input is the state to be kept; then comes a line
# for each file: ACTION FILE STORED PATH. The actions are keep (its original is known
# already), new (it is not) and restore (no patch changes it any more). The volume's
# mark goes first and comes last. The files that were written are printed.
set -eu
umask 022
src=$1 store=$2 work=$3 mark=$4
cd "$work"
IFS= read -r state
cat > put
mv "$src/$mark" "$src/$mark.new"
mkdir -p "$store"
printf '%s\n' "$state" > "$store/state"

declare -A used
count=0
wanted() { # what the file shall be
	if [[ $action == restore ]]; then echo "$store/$stored"; else echo "f/$file"; fi
}
while IFS=$'\t' read -r action file stored path; do
	if [[ $action == new && -e $src/$path ]]; then cp -p "$src/$path" "$store/$stored"; fi
	if [[ $action != restore ]]; then used[$stored]=1 count=$((count + 1)); fi
done < put
while IFS=$'\t' read -r action file stored path; do
	if [[ -e $(wanted) ]]; then continue; fi
	rm -f "$src/$path"
	if [[ $path == */* ]]; then
		(cd "$src" && rmdir -p --ignore-fail-on-non-empty -- "${path%/*}" 2>/dev/null) || true
	fi
done < put
while IFS=$'\t' read -r action file stored path; do
	want=$(wanted)
	if [[ ! -e $want ]]; then continue; fi
	if ! cmp -s "$want" "$src/$path"; then
		if [[ $path == */* ]]; then mkdir -p "$src/${path%/*}"; fi
		cp --remove-destination "$want" "$src/$path"
		echo "$path"
	fi
	# A chmod that changes nothing would still change the time by which kimg knows
	# that the tree's Kconfig is the one that it read.
	if [[ -x $want && ! -x $src/$path ]]; then chmod 755 "$src/$path"; fi
	if [[ ! -x $want && -x $src/$path ]]; then chmod 644 "$src/$path"; fi
done < put
for name in "$store"/*; do
	name=${name##*/}
	if [[ $name != state && -z ${used[$name]+x} ]]; then rm -f "$store/$name"; fi
done
if [[ $count == 0 ]]; then rm -rf "$store"; fi
mv "$src/$mark.new" "$src/$mark"
