#!/bin/sh
# Set up the virtual environment (first argument) and, as root on Debian or Ubuntu, the system
# packages a Qt window with OpenGL needs. Without root it prints the one line to run instead.
set -eu
venv=$1

packages="libgl1 libgl1-mesa-dri libegl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0
libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 libxcb-xfixes0"
# Whoever has a screen and no right to install can do without a virtual one.
if [ "$(id -u)" = 0 ] || [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  packages="$packages xvfb xauth"
fi

# A package counts as present under its own name or the name it got with 64-bit time (Ubuntu 24.04).
present() {
  for name in "$1" "${1}t64"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' && return 0
  done
  return 1
}

find_python() {
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

if command -v dpkg-query >/dev/null 2>&1; then
  missing=""
  for package in $packages; do present "$package" || missing="$missing $package"; done
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
      echo "Installing system packages:$missing"
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
      echo "System packages are missing. Please run this line, then the same make command again:"
      echo "  sudo apt-get install -y$missing"
      exit 1
    fi
  fi
fi

python=$(find_python) || { echo "Python 3.11 or newer was not found; install it or set PYTHON=/path/to/python."; exit 1; }
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null
  else
    echo "Python $version has no venv module. Please run: sudo apt-get install -y python$version-venv"
    exit 1
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing into $venv (a few minutes the first time) ..."
# pip of Debian 12 and older cannot read dependency groups (PEP 735).
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --editable '.[all]' --group dev
