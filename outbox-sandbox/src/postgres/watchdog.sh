# Leads the process group of a server's programs and reads a pipe that only their owner can
# write: first the folder they live in, then nothing until the owner is gone, whatever ended it.
# Then ends them and removes the folder.
trap '' HUP INT QUIT TERM
IFS= read -r home
while read -r _; do :; done

lock="$home/data/postmaster.pid"
{ read -r pid < "$lock"; } 2> /dev/null
kill -QUIT 0

# The server takes its lock away as the last thing it does; one that was killed cannot.
left=100
while [ -e "$lock" ] && kill -0 "$pid" && [ "$left" -gt 0 ]; do
    sleep 0.1
    left=$((left - 1))
done

# Fails while something still writes there.
left=50
until rm -rf "$home" || [ "$left" -eq 0 ]; do
    sleep 0.1
    left=$((left - 1))
done

# Whoever of the group has not heard QUIT; this process too.
kill -KILL 0
