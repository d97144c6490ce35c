#!/bin/sh
#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

# assemble.sh DIR: runs in a throw-away copy of the rootfs. Takes init and
# workload from DIR and leaves disk.img, vmlinuz and initrd there.
set -eu
cd "$1"

# The kernel package that Debian's meta-package stands for, not installed:
# only its kernel and a few modules are of use.
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
  sed -n 's/.*Depends: \(linux-image.*\)/\1/p')
if [ -z "$package" ]; then
  apt-get update -q
  package=$(apt-cache depends linux-image-cloud-amd64 |
    sed -n 's/.*Depends: \(linux-image.*\)/\1/p')
fi
# The archive moves on: an index that is too old names a file that is gone.
apt-get download -q "$package" ||
  { apt-get update -q; apt-get download -q "$package"; }
dpkg-deb -x "$package"_*.deb kernel
cp kernel/boot/vmlinuz-* vmlinuz
modules=$(echo kernel/usr/lib/modules/* kernel/lib/modules/* |
  tr ' ' '\n' | grep -v '\*')

mkdir -p root/bin root/lib root/proc root/sys root/dev root/drive root/tmp
cp /usr/bin/busybox workload root/bin/
cp init root/init
: > root/lab-guest
chmod 755 root/init root/bin/*
for name in failover net_failover virtio_net virtio_blk virtio_scsi \
    scsi_common scsi_mod cdrom libata ata_piix libahci ahci sr_mod sd_mod \
    isofs nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 fat vfat; do
  file=$(find "$modules" -name "$name.ko*")
  case $file in
    *.xz) xz -dc "$file" > "root/lib/$name.ko" ;;
    *.ko) cp "$file" root/lib/ ;;
    *) grep -q "/$name.ko$" "$modules/modules.builtin" ||
      { echo "the kernel has no module $name" >&2; exit 1; } ;;
  esac
done
(cd root && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 > initrd

# A FAT file system without partitions that syslinux makes bootable. The
# workload knows it by its label and never writes into it.
cat > syslinux.cfg <<S
SERIAL 0 115200
DEFAULT lab
PROMPT 0
LABEL lab
 KERNEL vmlinuz
 INITRD initrd
 APPEND $2
S
truncate -s 40M disk.img
mkfs.vfat -F 16 -n SXMBOOT disk.img
syslinux --install disk.img
MTOOLS_SKIP_CHECK=1 mcopy -i disk.img vmlinuz initrd syslinux.cfg ::/
