# The images that kimg works in. kimg lays BASE from verified packages and
# gives this build a context of this file, hugepages.c and debs/: the packages that
# the target's lock names (builder/toolchain/locks), every one of them checked
# against the archive's signature. Nothing here reaches a network or a registry.
#
#   bullseye  gcc-9, gcc-10   kernels 4.18 to 5.17
#   bookworm  gcc-12          kernels 5.18 to 6.11
#   trixie    gcc-14          kernels from 6.12 on
#   imaging                   debootstrap, e2fsprogs, QEMU, gdb
#
# What tells the targets apart is the packages in debs/. Their stages hold no
# instruction that runs: the engine's classic builder walks through all stages
# down to the one it is asked for.
ARG BASE
FROM ${BASE} AS installed

COPY debs hugepages.c /debs/

# One RUN, so that no file is in two layers. The base comes unpacked, with a
# true dpkg database, and is configured first:
# - base-passwd before all else: base-files gives directories to groups that it
#   makes, and neither depends on the other.
# - --unpack and --configure apart, not --install: dpkg then finds an order for
#   the whole set itself. --force-depends lets a pre-dependency within the set
#   wait for that.
# - policy-rc.d: no maintainer script starts a service.
# dpkg leaves out manuals and the like, and does not sync: the base brought
# /etc/dpkg/dpkg.cfg.d/kimg. An incomplete set fails at the audit.
#
# hugepages.so makes a compile a fifth to a quarter shorter; the imaging target has
# no compiler, and no use for it.
#
# The user is the one that a build runs as. The directories are where volumes
# are mounted: a new volume takes their owner, so nobody needs to be root.
RUN set -eu; \
    export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes; \
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; \
    chmod 755 /usr/sbin/policy-rc.d; \
    dpkg --force-depends --configure base-passwd; \
    dpkg --configure -a; \
    dpkg --force-depends --unpack /debs/*.deb; \
    dpkg --configure -a; \
    audit=$(dpkg --audit); test -z "$audit" || { echo "$audit"; exit 1; }; \
    for cc in /usr/bin/gcc-[0-9]*; do \
        test ! -x "$cc" || "$cc" -O2 -Wall -Werror -shared -fPIC -o /usr/lib/hugepages.so /debs/hugepages.c; \
    done; \
    rm -rf /debs /var/log/* /var/cache/debconf/*-old /var/lib/dpkg/*-old; \
    echo 'kimg:x:1000:' >> /etc/group; \
    echo 'kimg:x:1000:1000:kimg:/kimg/work:/bin/sh' >> /etc/passwd; \
    mkdir -p /kimg/src /kimg/obj /kimg/ccache /kimg/work; \
    chown -R 1000:1000 /kimg

FROM installed AS bullseye

FROM installed AS bookworm

FROM installed AS trixie

FROM installed AS imaging
