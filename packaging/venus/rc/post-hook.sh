#!/bin/sh
# Venus OS runs this after it has unpacked venus-data.tar.gz from a USB stick or an SD card.
[ "${1:-success}" = success ] || exit 1
exec /data/apps/dbus-mqtt/setup install
