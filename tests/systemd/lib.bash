# Shared by the tests in the guest.
share=/opt/share
socket=/run/conduit/registry.sock

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# wait_until WHAT COMMAND...: polls until the command succeeds.
wait_until() {
    local what=$1 deadline=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
        sleep 0.01
    done
}

assert_equal() {
    [ "$1" = "$2" ] || fail "${3:-}: \"$1\" is not \"$2\""
}

now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

measured() {
    printf 'MEASURED: %s\n' "$*"
}

property() {
    systemctl show --property="$2" --value "$1"
}

# The inode of a process's only connection to the registry.
connection_of() {
    local link
    for link in /proc/"$1"/fd/*; do
        case $(readlink "$link") in socket:*) readlink "$link" ;; esac
    done | sort
}

# The journal may be a moment behind.
in_journal() {
    wait_until "$* in the journal" eval "journalctl --no-pager --output=cat $* | grep -q ."
}

# For a test that runs alone.
install_once() {
    dpkg-query -W conduit >/dev/null 2>&1 || dpkg --install "$share/conduit.deb" >/dev/null 2>&1 || fail 'dpkg --install'
}

# The pid of a topic's publisher.
publisher_of() {
    conduit info "$1" --json 2>/dev/null | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p' | head -n 1
}

# A user of our own, with a home.
make_user() {
    id "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
}

# as_user NAME COMMAND...: with the variables that a session would have.
as_user() {
    local user=$1 uid
    uid=$(id -u "$1")
    shift
    setpriv --reuid="$user" --regid="$user" --init-groups env -i USER="$user" HOME="/home/$user" \
        PATH=/usr/bin:/bin XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" "$@"
}

main_pid() {
    property "$1" MainPID
}
