#!/bin/sh
# See to a Chromium for the browser tests. Never fails: without one they do not run, and that is
# said aloud.
#   chromium.sh          install it by the system's package manager, if it is missing
#   chromium.sh --check  say aloud if it is still missing

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then exit 0; fi

if [ "${1:-}" = --check ]; then
    cat >&2 <<'EOF'

  ##########################################################################
  #  NO CHROMIUM: THE CHECKS IN A BROWSER WERE NOT RUN (offline, themes,   #
  #  phone, keyboard, accessibility, and the report as a PDF).             #
  #  Put a command `chromium` on the PATH and run this again.              #
  ##########################################################################

EOF
    exit 0
fi

# As root, or by sudo: with a password only where there is somebody to type it.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

echo "No Chromium here: trying to install it for the checks in a browser." >&2
if command -v apt-get >/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
elif command -v dnf >/dev/null; then
    as_root dnf install -y chromium
elif command -v pacman >/dev/null; then
    as_root pacman -S --noconfirm chromium
elif command -v brew >/dev/null; then
    brew install --cask chromium
fi >&2
exit 0
