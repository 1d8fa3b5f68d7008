# Mounts a small disk in memory and keeps it until nobody holds the other end of standard input
# any more, however that one has ended. $1 folder, $2 bytes, $3 and $4 user and group it is for.
trap '' HUP INT QUIT TERM
if mount -t tmpfs -o "size=$2,mode=0700,uid=$3,gid=$4" tmpfs "$1" 2>&1; then
    echo mounted
    while read -r _; do :; done
    umount -l "$1"
fi
rmdir "$1"
