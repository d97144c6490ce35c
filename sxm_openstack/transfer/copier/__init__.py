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

"""The copier: one frozen image to another NBD server, sparse and resumable.

A program of its own (``python3 -I program.py copier``, see
:mod:`sxm_openstack.transfer.program`) on libnbd, with many requests in
flight.  Its input is one JSON object a line, the first is the job::

    {"source": {"socket": "/run/sxm/1/vda.source.nbd", "export": "vda"},
     "destination": {"socket": "/run/sxm/1/vda.base.sock", "export": "vda"},
     "extent": "all",        what the guest sees; "top": the top layer alone
     "zeros": "skip",        the destination has zeros; "write": it may not;
                             "look": ask its server
     "connections": 1,       to the destination
     "offset": 0,            everything below it is there already
     "rate_bytes_per_s": 0}  0 is no limit

and then, at any time, ``{"rate_bytes_per_s": 1000000}``.  The end of the
input ends it.  Its output is one JSON object a line, several a second::

    {"total_bytes": 1, "done_bytes": 1, "sent_bytes": 1, "offset": 1,
     "finished": false}

``offset`` is the low-water mark: everything below it is at the destination
and flushed there, so that a copy may resume from it even after the server
was killed.  The last line has ``finished`` or ``{"error": ...}``.

Why not a known tool: nbdcopy and qemu-img can neither resume nor change
their rate, and jobs of qemu-storage-daemon over QMP cannot resume and write
zeros where the destination has them already.  Measured on a busy machine
with two cores, 1 GiB with 537 MB of data, tmpfs, best of six: nbdcopy 104 MB/s
with 0.6 s of CPU time, ``qemu-img convert -n -W -m 8`` 110 MB/s with 0.6 s,
this 89 MB/s, and 109 MB/s through both relays, with 1.0 s; all leave 512 MiB
allocated, and 536.9 MB cross the link.
"""
