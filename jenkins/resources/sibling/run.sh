# Runs `sibling "$@"` on any POSIX shell: its log goes to the console as it is written, the end of it to $folder/tail, and
# its exit code is the script's. Set before: folder (this call's own), client_folder (this workspace's), and socket (empty
# if a service was named).
#
# The log goes through tee to the console and to `tail`, so that nothing grows with the log. When the build is aborted,
# Jenkins ends these processes one by one, children first, and waits for each until it is gone from /proc, for up to two
# minutes (hudson.util.ProcessTree). So none of them ignores a signal, and all are children of a shell that is waiting, which
# leaves no zombies. The client cancels its build when it is told to end, and when nobody reads its log any more.

say() { printf '[sibling] %s\n' "$*"; }

fetch() {
    address=${SIBLING_URL%/}/cli/sibling
    if command -v curl >/dev/null; then
        curl -fsS -o "$folder/client" "$address"
    elif command -v wget >/dev/null; then
        wget -q -O "$folder/client" "$address"
    else
        python3 -c 'import sys, urllib.request as r; open(sys.argv[2], "wb").write(r.urlopen(sys.argv[1]).read())' \
            "$address" "$folder/client"
    fi
}

# The client of the service, once for each Jenkins build in this workspace: the next one may find a newer service.
have_client() {
    if [ -z "$SIBLING_URL" ]; then
        say "This agent was not started by Sibling and has no \`sibling\`. Set SIBLING_URL to the service's address, or give url."
        return 1
    fi
    if ! command -v python3 >/dev/null; then
        say "This agent has no python3, which the client of Sibling needs (3.9 or newer)."
        return 1
    fi
    wanted="$SIBLING_URL $BUILD_TAG"
    if [ "$wanted" != "$(cat "$client_folder/of" 2>/dev/null)" ]; then
        if ! { mkdir -p "$client_folder" && fetch && mv -f "$folder/client" "$client_folder/sibling.pyz"; }; then
            say "The client could not be fetched from $SIBLING_URL/cli/sibling."
            return 1
        fi
        printf '%s' "$wanted" >"$folder/of" && mv -f "$folder/of" "$client_folder/of"
    fi
}

client() {
    if [ -n "$socket" ] && [ -S "$socket" ]; then
        # The build has an identity of its own; what an admin set for other agents would take its place.
        unset SIBLING_URL SIBLING_TOKEN SIBLING_TOKEN_FILE SIBLING_ID_TOKEN SIBLING_ID_TOKEN_FILE
    fi
    if command -v sibling >/dev/null; then
        exec sibling "$@"
    fi
    have_client || exit 125
    exec python3 "$client_folder/sibling.pyz" "$@"
}

mkdir -p "$folder" && mkfifo "$folder/log" || exit 125
exec 4>&1
status=$(
    {
        tail -c 8192 <"$folder/log" >"$folder/tail" 3>&- 4>&- &
        { (client "$@") 2>&1 3>&- 4>&-; echo $? >&3; } | tee "$folder/log" 3>&- >&4
        wait
    } 3>&1
)
rm -f "$folder/log" "$folder/client" "$folder/of"
[ "$status" != 0 ] || rm -f "$folder/tail"
rmdir "$folder" 2>/dev/null
exit "${status:-125}"
