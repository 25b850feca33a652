#!/bin/sh
# Run a command that opens windows: on the screen there is, else on a virtual one.
# With --always-virtual the screen is left alone wherever Xvfb exists.
set -eu
virtual=no
if [ "$1" = --always-virtual ]; then virtual=yes; shift; fi
if [ "$virtual" = no ] && [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then exec "$@"; fi
if [ "$(uname)" != Linux ]; then exec "$@"; fi
if ! command -v xvfb-run >/dev/null 2>&1; then
  if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then exec "$@"; fi
  echo "There is no display and no Xvfb. Please run: sudo apt-get install -y xvfb xauth"
  exit 1
fi
# Wayland would win over the virtual X screen.
unset WAYLAND_DISPLAY
NAPARI_QSM_VIRTUAL_DISPLAY=1 LIBGL_ALWAYS_SOFTWARE=1 QT_QPA_PLATFORM=xcb \
  exec xvfb-run -a -s "-screen 0 1680x1050x24" "$@"
