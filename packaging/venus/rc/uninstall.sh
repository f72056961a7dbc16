#!/bin/sh
# The post-hook of venus-uninstall.tar.gz: Venus OS runs it when it finds that on a USB stick or an SD card, under
# the name venus-data.tar.gz.
app=/data/apps/dbus-mqtt
[ ! -x $app/setup ] || $app/setup uninstall
rm -rf $app /data/conf/dbus-mqtt.toml
