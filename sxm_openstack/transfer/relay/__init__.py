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

"""The relay: all NBD traffic of one move, between unix sockets and TCP.

A program of its own (``python3 -I program.py relay MODE DIRECTORY``, see
:mod:`sxm_openstack.transfer.program`), so that it outlives
the service that started it, and with it a guest's mirrored writes.

``connect`` runs on the source: each connection to
``<directory>/<channel>.sock`` becomes one TCP connection to the destination,
opened by the line ``SXM1 <token> <channel>``.  ``listen`` runs on the
destination: it checks that line and connects to the channel's unix socket
there.  Both then move bytes, and hold at most 256 KiB per direction.
With ``-`` for a channel, ``listen`` answers ``SXM1 -`` and hangs up: the
caller knows that it would be let in.

With ``tls``, all of that goes through TLS 1.3, and each side sees that the
certificate of the other is one of its peer, see :mod:`.tls`.

The configuration is one JSON object on standard input::

    {"token": "...",
     "address": "192.0.2.7",             of the destination, in both modes
     "channels": {"vda.base": "vda.base.sock", "disks": "disks.sock"},
     "tls": {"directory": "/etc/pki/qemu",
             "names": ["compute2"]},     of the other side
     "late_channels": ["disks"],         whose server may come 10 s later
     "idle_exit_s": 3600,                unused for so long: it ends; 0: never
     "ports": [49300, 49399],            listen: takes the first free one
     "port": 49301,                      connect: the rest as well
     "socket_mode": 432, "socket_gid": 64055,
     "watchdog_timeout_s": 5.0,
     "answer_timeout_s": {"vda.base": 60.0}}

One JSON object on standard output says ``{"port": ...}`` when it serves, or
``{"error": ...}``.  From then on it is asked on the unix socket
``<directory>/relay-<mode>.ctl``, one JSON object a line::

    {"op": "stats"}
    {"op": "export", "channel": "vda.mirror"}
    {"op": "close", "channel": "vda.mirror"}
    {"op": "set", "watchdog_timeout_s": 5.0, "pacing": {"vda.base": 1000000}}
    {"op": "shutdown"}

The watchdog of ``connect`` closes everything at once when bytes are due on a
connection and none move for its time: QEMU sees a closed connection, its job
fails, and the guest writes on.  The reason can be asked for afterwards.

Cost, measured: 0.66 s of CPU time for each GB and 43 us for each round trip,
per relay.  With TLS against without, in one run over the loopback device on
two busy cores: 1.2 instead of 0.4 s of CPU time for each GB per relay, 0.41
instead of 1.04 GB/s through both (0.39 times as much; 3.3 Gbit/s), and 0.1 ms
more for each round trip.
"""
