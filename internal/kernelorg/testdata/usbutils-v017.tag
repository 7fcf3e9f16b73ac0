object 23077bf82534baad8adfe33ce4c02b5fb087eb86
type commit
tag v017
tagger Greg Kroah-Hartman <gregkh@linuxfoundation.org> 1698680245 +0100

usbutils 017 release

Signed-off-by: Greg Kroah-Hartman <gregkh@linuxfoundation.org>
